"""API keys, `iw_<id>_<secret>`, and the forms in which senders bring them."""

import base64
import re
import secrets
import string
from hashlib import sha256
from typing import NamedTuple

from starlette.requests import HTTPConnection

_LETTERS = string.ascii_letters + string.digits
_SECRET_LETTERS = 43
"""62 letters to the power of 43 are 256 bits."""

_KEY = re.compile(r"iw_([a-z0-9]{4,32})_[A-Za-z0-9]{32,128}")

_QUERY_PASSWORD_PATHS = frozenset({"/write", "/query"})
"""Where InfluxDB 1 takes user and password as `u` and `p`; elsewhere no URL holds a secret."""


class ApiKey(NamedTuple):
    """A key as its owner has it."""

    id: str
    text: str

    @classmethod
    def generate(cls) -> "ApiKey":
        """A key that nobody has."""
        key_id = secrets.token_hex(6)
        secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LETTERS))
        return cls(key_id, f"iw_{key_id}_{secret}")

    @classmethod
    def find(cls, text: str) -> "ApiKey | None":
        """The key that a text is; None if it is none."""
        found = _KEY.fullmatch(text)
        return None if found is None else cls(found[1], text)

    @property
    def digest(self) -> bytes:
        return digest_of(self.text)


def digest_of(secret: str) -> bytes:
    """What is kept of a secret of 256 random bits: nobody finds those by trying."""
    return sha256(secret.encode(errors="replace")).digest()


def find_credential(connection: HTTPConnection) -> str | None:
    """What a request brings as its key, in whichever form; None if it brings nothing.

    `X-API-Key` counts before `Authorization`, which a proxy may need for itself. The latter is
    `Bearer <key>`, `Token <key>` (InfluxDB; `Token <user>:<key>` too), or Basic with the key as
    password.
    """
    headers = connection.headers
    if (key := headers.get("x-api-key")) is not None:
        return key.strip()
    if (authorization := headers.get("authorization")) is not None:
        return _from_authorization(authorization)
    if connection.scope["path"] in _QUERY_PASSWORD_PATHS:
        return connection.query_params.get("p")
    return None


def _from_authorization(header: str) -> str:
    scheme, _, said = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return said.strip()
        case "token":
            return said.strip().rpartition(":")[2]
        case "basic":
            return _from_basic(said.strip())
        case _:
            return ""


def _from_basic(said: str) -> str:
    """The password (RFC 7617); a user's name holds no colon."""
    try:
        return base64.b64decode(said, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
