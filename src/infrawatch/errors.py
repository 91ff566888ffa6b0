"""Every error InfraWatch raises on purpose.

InfraWatchError
├── InvalidInput             the request is invalid; retrying does not help
│   ├── MalformedBody        the body does not match its declared format
│   ├── InvalidSelector      `match` is not a vector selector
│   ├── InvalidTime          `start`, `end`, `step` and the like
│   ├── InvalidCursor        not a cursor of InfraWatch
│   ├── InvalidQuery         not PromQL
│   ├── CannotEvaluate       valid PromQL that cannot be evaluated
│   ├── InvalidFrame         an invalid frame from a live viewer
│   └── QueryTooBroad        more series or samples than one query may read
├── UnsupportedContent       an unsupported content type or encoding
├── TooLarge                 the body is larger than this server accepts
│   └── BatchTooLarge        the body fits, but holds too many series or samples
├── Unauthenticated          no key, or one that is wrong, revoked or expired
│   └── TooManyWrongKeys     … and too many from the same site: refused for a while
├── Forbidden                the caller may not do this
│   └── ScopeMissing         the key is valid, but lacks the required scope
├── LimitExceeded            a tenant or key has reached a limit
├── NotFound
├── AlreadyExists            the object to create already exists
├── CannotStart              a command cannot run here; the message says what to change
├── RequestRefused           client side: the server refused; retrying does not help
└── Unavailable              a condition of the server; retry after a while
    ├── Overloaded           all capacity is in use; the request was not started
    ├── StoreUnavailable     PostgreSQL is unreachable, or the connection was lost
    │   └── StoreRefusal     … or refuses for now: nothing was stored
    │       └── StoreConflict    … because of a conflict with another transaction
    ├── DeadlineExceeded     the work took longer than its deadline
    ├── ShuttingDown
    └── ServerUnavailable    client side: the server is unreachable, or answered "later"
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
    """`reason` is a label for counters; `who` names the key or principal, if it is known."""

    code = "unauthenticated"
    status = 401

    def __init__(self, message: str, *, reason: str, who: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.who = who


class TooManyWrongKeys(Unauthenticated):
    """`retry_after` is the delay until wrong keys are checked again; valid keys always are."""

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
    """`retry_after` is the delay until the limit has room for the request."""

    code = "limit_exceeded"
    status = 429

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CannotStart(InfraWatchError):
    """Never sent over HTTP: the command prints the message and exits with 1."""

    code = "cannot_start"


class NotFound(InfraWatchError):
    code = "not_found"
    status = 404


class AlreadyExists(InfraWatchError):
    code = "already_exists"
    status = 409


class RequestRefused(InfraWatchError):
    """`answered_status` and `answered_code` are those of the server's response."""

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
    """The operation was not done; after any other `StoreUnavailable` it may have been."""


class StoreConflict(StoreRefusal):
    """The other transaction has prevailed, so an immediate retry may succeed."""


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class ServerUnavailable(Unavailable):
    """`retry_after` is the delay that the server asked for, if any."""

    code = "server_unavailable"

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def reworded(message: str) -> str:
    """Return what Pydantic says of a value, to follow its name: `port: it is required`."""
    message, _, _ = message.removeprefix("Value error, ").partition(", unable to parse")
    return message.replace("Field required", "it is required").replace("Input should", "it should")
