"""API keys, `iw_<id>_<secret>`, and the forms in which clients send them."""

import base64
import re
import secrets
import string
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection

from infrawatch.access.requests.headers import find_header

_LETTERS = string.ascii_letters + string.digits
_SECRET_LETTERS = 43
"""62 letters to the power of 43 are 256 bits."""

_KEY = re.compile(r"iw_([a-z0-9]{4,32})_[A-Za-z0-9]{32,128}")

_QUERY_PASSWORD_PATHS = frozenset({"/write", "/query"})
"""Paths on which InfluxDB 1 takes `u` and `p`; on others, no URL contains a secret."""


class ApiKey(NamedTuple):
    """A key including its secret."""

    id: str
    text: str

    @classmethod
    def generate(cls) -> "ApiKey":
        """Create a new random key."""
        key_id = secrets.token_hex(6)
        secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LETTERS))
        return cls(key_id, f"iw_{key_id}_{secret}")

    @classmethod
    def find(cls, text: str) -> "ApiKey | None":
        """Parse a key; return None if the text is not one."""
        found = _KEY.fullmatch(text)
        return None if found is None else cls(found[1], text)

    @property
    def digest(self) -> bytes:
        return digest_of(self.text)


def digest_of(secret: str) -> bytes:
    """Return the digest stored for a secret of 256 random bits, which cannot be guessed."""
    return sha256(secret.encode(errors="replace")).digest()


def find_credential(connection: HTTPConnection) -> str | None:
    """Return the credential of a request, in any supported form; None if it has none.

    `X-API-Key` takes precedence over `Authorization`, which a proxy may need for itself. The
    latter is `Bearer <key>`, `Token <key>` (InfluxDB; also `Token <user>:<key>`), or Basic with
    the key as password.
    """
    scope = connection.scope
    if (key := find_header(scope, b"x-api-key", None)) is not None:
        return key.strip()
    if (authorization := find_header(scope, b"authorization", None)) is not None:
        return _from_authorization(authorization)
    if scope["path"] in _QUERY_PASSWORD_PATHS:
        query = scope["query_string"].decode("latin-1")
        return dict(parse_qsl(query, keep_blank_values=True)).get("p")  # faster than QueryParams
    return None


def _from_authorization(header: str) -> str:
    scheme, _, value = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "token":
            return value.strip().rpartition(":")[2]
        case "basic":
            return _from_basic(value.strip())
        case _:
            return ""


def _from_basic(value: str) -> str:
    """Return the password (RFC 7617); a user name contains no colon."""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
