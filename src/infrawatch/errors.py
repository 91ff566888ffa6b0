"""Every error InfraWatch raises on purpose.

InfraWatchError
├── InvalidInput             the request is wrong; sending it again changes nothing
│   ├── MalformedBody        the body cannot be read as what it says it is
│   ├── InvalidSelector      `match` is not a vector selector
│   ├── InvalidTime          `start`, `end`, `step` and the like
│   ├── InvalidCursor        a cursor that is not one of ours
│   ├── InvalidQuery         not PromQL
│   ├── CannotEvaluate       PromQL, but without an answer
│   ├── InvalidFrame         a viewer's frame that cannot be followed
│   └── QueryTooBroad        more series or samples than one answer may touch
├── UnsupportedContent       a content type or encoding nobody here reads
├── TooLarge                 the body is larger than this server takes
│   └── BatchTooLarge        the body fits, but holds too many series or samples
├── Unauthenticated          no key came along, or one that is wrong, revoked or expired
│   └── TooManyWrongKeys     … and so many came from there that they are not looked at for a while
├── Forbidden                who is asking may not do this
│   └── ScopeMissing         the key is right, but not made for this
├── LimitExceeded            a tenant or key has used up what it is allowed
├── NotFound
├── AlreadyExists            what was to be created is there
├── CannotStart              a command cannot work on this machine; it says what to change
├── RequestRefused           a server that our client asked said no; asking again changes nothing
└── Unavailable              our fault; send again after a while
    ├── Overloaded           all there is to do it with is in use; nothing was begun
    ├── StoreUnavailable     PostgreSQL cannot be reached, or went away
    │   └── StoreRefusal     … or says no for now: nothing was stored
    │       └── StoreConflict    … to one of two that waited for each other
    ├── DeadlineExceeded     the work took longer than its deadline
    ├── ShuttingDown
    └── ServerUnavailable    a server that our client asked is away, or said "later"
"""

from datetime import timedelta
from typing import ClassVar


class InfraWatchError(Exception):
    """Base of the tree; `code` is part of the API, the message is not."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class InvalidInput(InfraWatchError):
    code = "invalid_input"
    status = 422


class MalformedBody(InvalidInput):
    code = "malformed_body"
    status = 400


class InvalidSelector(InvalidInput):
    code = "invalid_selector"


class InvalidTime(InvalidInput):
    code = "invalid_time"


class InvalidCursor(InvalidInput):
    code = "invalid_cursor"


class InvalidQuery(InvalidInput):
    code = "invalid_query"


class CannotEvaluate(InvalidInput):
    code = "cannot_evaluate"


class InvalidFrame(InvalidInput):
    code = "invalid_frame"


class QueryTooBroad(InvalidInput):
    code = "query_too_broad"


class UnsupportedContent(InfraWatchError):
    code = "unsupported_content"
    status = 415


class TooLarge(InfraWatchError):
    code = "body_too_large"
    status = 413


class BatchTooLarge(TooLarge):
    code = "batch_too_large"


class Unauthenticated(InfraWatchError):
    """`reason` is a word for counters, `who` the key it is about, if it is one of ours."""

    code = "unauthenticated"
    status = 401

    def __init__(self, message: str, *, reason: str, who: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.who = who


class TooManyWrongKeys(Unauthenticated):
    """`retry_after` is when a wrong key is looked at again; a right one always is."""

    code = "too_many_wrong_keys"
    status = 429

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__(message, reason="too_many_wrong_keys")
        self.retry_after = retry_after


class Forbidden(InfraWatchError):
    code = "forbidden"
    status = 403


class ScopeMissing(Forbidden):
    code = "scope_missing"


class LimitExceeded(InfraWatchError):
    """`retry_after` is when there will be room for what was sent."""

    code = "limit_exceeded"
    status = 429

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CannotStart(InfraWatchError):
    """Never answered over HTTP: the command prints the message and leaves with 1."""

    code = "cannot_start"


class NotFound(InfraWatchError):
    code = "not_found"
    status = 404


class AlreadyExists(InfraWatchError):
    code = "already_exists"
    status = 409


class RequestRefused(InfraWatchError):
    """`answered_status` and `answered_code` are the server's own."""

    code = "request_refused"
    status = 502

    def __init__(self, message: str, *, answered_status: int, answered_code: str) -> None:
        super().__init__(message)
        self.answered_status = answered_status
        self.answered_code = answered_code


class Unavailable(InfraWatchError):
    code = "unavailable"
    status = 503
    retryable = True


class Overloaded(Unavailable):
    code = "overloaded"


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class StoreRefusal(StoreUnavailable):
    """Of the other, nobody knows whether what was asked for was done; of this, everybody does."""


class StoreConflict(StoreRefusal):
    """The other is done then, so once more may be tried at once."""


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class ServerUnavailable(Unavailable):
    """`retry_after` is how long the server asked to be left alone, if it said."""

    code = "server_unavailable"

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
