"""Cursors: the last commit seen of each writer, as one opaque string."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from infrawatch.errors import InvalidCursor
from infrawatch.model.timerange import FAR_FUTURE_US

MAX_CURSOR_CHARACTERS = 16_384
"""Fits about a thousand writers; a process registers one at start and after a lost connection."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Moment = Annotated[int, Field(ge=0, lt=FAR_FUTURE_US)]
_WIRE: TypeAdapter[tuple[UUID, int, dict[int, int]]] = TypeAdapter(
    tuple[UUID, _Moment, dict[_Count, _Count]]
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """All commits up to `seqs` have been seen, in the database identified by `epoch`.

    `at_us` is the database's clock when the cursor was created.
    """

    epoch: UUID
    at_us: int
    seqs: Mapping[int, int]

    def to_text(self) -> str:
        """Return the opaque form: URL-safe, without padding."""
        wire = _WIRE.dump_json((self.epoch, self.at_us, dict(self.seqs)))
        return base64.urlsafe_b64encode(wire).rstrip(b"=").decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the opaque form.

        Raises:
            InvalidCursor: the text was not made by `to_text`.
        """
        try:
            padded = text[:MAX_CURSOR_CHARACTERS] + "=" * (-len(text) % 4)
            wire = base64.b64decode(padded, altchars=b"-_", validate=True)
            return cls(*_WIRE.validate_json(wire))
        except (ValueError, binascii.Error, ValidationError):
            raise InvalidCursor(
                "this is not a cursor; pass on what an answer gave you, unchanged"
            ) from None
