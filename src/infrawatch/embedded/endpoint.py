"""The port and the password of an embedded server: chosen once, then kept."""

import json
import os
import random
import secrets
import socket
from pathlib import Path
from typing import NamedTuple, Self

from infrawatch.embedded.home import Home
from infrawatch.errors import CannotStart

LOOPBACK = "127.0.0.1"
ROLE = DATABASE = "infrawatch"
# Below the ephemeral ports of the system (on Linux, from 32768), so that the chosen port is
# still free at the next start.
_PORTS = range(20_000, 32_768)


class Endpoint(NamedTuple):
    port: int
    password: str

    @classmethod
    def choose(cls) -> Self:
        return cls(choose_port(), secrets.token_urlsafe(24))

    @classmethod
    def find(cls, home: Home) -> Self | None:
        """The endpoint kept in `home`; None if no server was started there yet.

        Raises:
            CannotStart: its file cannot be read, or is damaged.
        """
        path = _path(home)
        try:
            kept = json.loads(path.read_bytes())
            return cls(int(kept["port"]), str(kept["password"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CannotStart(
                f"{path} cannot be read: {error.strerror}. "
                "Run as the user the data directory belongs to, or choose another with --data-dir."
            ) from error
        except (ValueError, LookupError, TypeError):
            raise CannotStart(
                f"{path} is damaged. Delete it: a new port and password are chosen then."
            ) from None

    @classmethod
    def of(cls, home: Home) -> Self:
        """The endpoint kept in `home`.

        Raises:
            CannotStart: no server was started there yet; or as `find` does.
        """
        endpoint = cls.find(home)
        if endpoint is None:
            raise CannotStart(
                f"There is no database in {home.path} yet. Start it once with `infrawatch up`, "
                "or name another directory with --data-dir."
            )
        return endpoint

    def keep(self, home: Home) -> None:
        """Write it to `home`, readable only by the owner, replacing an older one atomically."""
        path = _path(home)
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self._asdict(), file)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)

    @property
    def public_url(self) -> str:
        """`url` without the password, for display."""
        return f"postgresql://{ROLE}@{LOOPBACK}:{self.port}/{DATABASE}"

    def url(self, database: str = DATABASE) -> str:
        """A DSN for psql, BI tools and drivers."""
        return f"postgresql://{ROLE}:{self.password}@{LOOPBACK}:{self.port}/{database}"


def choose_port() -> int:
    """A free port of the loopback address.

    Raises:
        CannotStart: a hundred tries found none.
    """
    for port in random.sample(_PORTS, 100):
        if is_free(port):
            return port
    raise CannotStart(
        f"There is no free port between {_PORTS.start} and {_PORTS.stop} on {LOOPBACK}: stop "
        "something that listens there."
    )


def is_free(port: int) -> bool:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


def _path(home: Home) -> Path:
    return home.path / "postgres.json"
