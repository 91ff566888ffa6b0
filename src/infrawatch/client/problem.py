"""Problems: errors as servers report them (RFC 9457)."""

from typing import Self

from pydantic import ValidationError

from infrawatch.client.series import Answer


class Problem(Answer):
    """The members of a problem that the client reads."""

    status: int = 0
    code: str = ""
    title: str = ""
    detail: str = ""

    @classmethod
    def read(cls, body: bytes | bytearray) -> Self:
        """Parse a body; return an empty problem if it is none, as from a proxy."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return cls()
