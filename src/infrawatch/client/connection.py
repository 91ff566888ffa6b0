"""The client: requests to one server over kept-alive connections."""

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

import httpx
from pydantic import ValidationError

from infrawatch.client.live import LiveUpdate, SubscriptionOptions, follow
from infrawatch.client.loopback import is_loopback
from infrawatch.client.problem import Problem
from infrawatch.client.series import Answer, Found, Receipt, Series
from infrawatch.client.url import LATER, parse_url, public_url, to_headers
from infrawatch.errors import InvalidInput, RequestRefused, ServerUnavailable
from infrawatch.model.timerange import Precision, to_us

_CONNECT_TIMEOUT_S = 5.0
_KEEPALIVE_S = 300.0  # longer than the usual pause between two batches
_GZIP_LEVEL = 1


_AnswerT = TypeVar("_AnswerT", bound=Answer)


class Client:
    """Talks to one server over kept-alive connections; an async context manager.

    `url` is the server's base URL, including the path it is mounted at, if any. Proxies from the
    environment are used, except for a server on loopback. Every request succeeds or fails within
    `timeout`.

    Raises:
        InvalidInput: `url` is not an http or https URL, or the key cannot be sent in a header.
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout: timedelta = timedelta(seconds=30)
    ) -> None:
        parsed = parse_url(url)
        self._url = public_url(url)
        self._address = parsed
        self._headers = to_headers(key)
        self._timeout_s = timeout.total_seconds()
        self._http = httpx.AsyncClient(
            base_url=parsed,
            headers=self._headers,
            timeout=httpx.Timeout(self._timeout_s, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
            trust_env=not is_loopback(parsed.host),
            # Loading the trusted certificates takes 15 ms, and plain HTTP does not need them.
            verify=parsed.scheme == "https",
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def push(self, series: Iterable[Series], *, partial: bool = False) -> Receipt:
        """Store a batch; return once it is committed.

        A batch is stored completely or not at all, unless `partial`: then valid samples are
        stored and the receipt names the rest. Sending a batch again is safe.

        Raises:
            InvalidInput: a value is not finite, or a time is naive; nothing was sent.
            RequestRefused: the batch was refused; nothing was stored.
            ServerUnavailable: the batch may or may not be stored; send it again.
        """
        try:
            body = json.dumps({"series": [_to_wire(one) for one in series]}, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"this batch cannot be sent: {error}") from None
        compressed = gzip.compress(body.encode(), _GZIP_LEVEL)
        return await self.push_body(compressed, precision="us", partial=partial)

    async def push_body(
        self,
        body: bytes,
        *,
        precision: Precision = "ms",
        partial: bool = False,
    ) -> Receipt:
        """Store a batch that is already in native JSON compressed with gzip; see `push`."""
        answer = await self._ask(
            "POST",
            "v1/samples",
            params={"precision": precision, "partial": str(partial).lower()},
            content=body,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )
        return self._read(Receipt, answer)

    async def query(
        self,
        match: str,
        *,
        start: datetime | str = "-1h",
        end: datetime | str = "now",
        step: str | None = None,
        fn: str = "avg",
        wait_for: str | None = None,
    ) -> list[Series]:
        """Read the series that a selector matches, samples in order of time, `start` inclusive.

        Returns raw samples, or one value of `fn` per `step` if a step is given. `wait_for` takes
        the cursor of a receipt: the result then includes the samples it acknowledged.

        Raises:
            RequestRefused: the selector or a time is invalid, or the result would be too large.
            ServerUnavailable: retry later.
        """
        params = {"match": match, "start": _to_time(start), "end": _to_time(end), "precision": "us"}
        if step is not None:
            params |= {"step": step, "fn": fn}
        if wait_for is not None:
            params["wait_for"] = wait_for
        path = "v1/samples" if step is None else "v1/range"
        answer = await self._ask("GET", path, params=params, headers={"Accept": "application/json"})
        return [one.to_series() for one in self._read(Found, answer).series]

    def live(
        self, match: str, *, since: str | None = None, every: timedelta | None = None
    ) -> AsyncGenerator[LiveUpdate, None]:
        """Follow the series that a selector matches: a snapshot, then every commit.

        The snapshot has the last sample of each series, or all samples `since` a time. `every` is
        the minimum time between updates; it drops no samples. A lost connection is re-established,
        possibly to another server, and resumes where it stopped.

        Raises:
            RequestRefused: the selector or `since` is invalid, or the key may not read.
            ServerUnavailable: no server is reachable at first; later, the client reconnects.
        """
        return follow(self._address, self._headers, SubscriptionOptions(match, since, every))

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._http.request(method, path, **request)
        except TimeoutError:
            raise ServerUnavailable(
                f"{self._url} did not answer within {self._timeout_s:g} s"
            ) from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServerUnavailable(f"cannot reach {self._url}: {reason}") from error
        if not answer.is_success:
            raise self._to_error(answer)
        return answer

    def _read(self, shape: type[_AnswerT], answer: httpx.Response) -> _AnswerT:
        try:
            return shape.model_validate_json(answer.content)
        except ValidationError:
            raise ServerUnavailable(
                f"{self._url} answered, but not as InfraWatch does: is this the right URL?"
            ) from None

    def _to_error(self, answer: httpx.Response) -> RequestRefused | ServerUnavailable:
        status = answer.status_code
        if answer.has_redirect_location:
            place = answer.headers["Location"]
            return ServerUnavailable(f"{self._url} redirects to {place}: use that as the URL")
        problem = Problem.read(answer.content)
        detail = problem.detail or problem.title or answer.reason_phrase
        message = f"{self._url} answered {status}: {detail}"
        if answer.is_client_error and status not in LATER:
            code = problem.code or f"http_{status}"
            return RequestRefused(message, answered_status=status, answered_code=code)
        return ServerUnavailable(message, retry_after=_read_retry_after(answer.headers))


def _to_wire(series: Series) -> dict[str, object]:
    described = {"type": series.type, "unit": series.unit, "help": series.help}
    return {
        "metric": series.metric,
        "labels": dict(series.labels),
        "samples": [(to_us(at), value) for at, value in series.samples],
        **{name: text for name, text in described.items() if text is not None},
    }


def _to_time(time: datetime | str) -> str:
    return time if isinstance(time, str) else time.isoformat()


def _read_retry_after(headers: httpx.Headers) -> timedelta | None:
    """RFC 9110, section 10.2.3: seconds, or a date; None if it is neither or absent."""
    text = headers.get("Retry-After", "").strip()
    try:
        if text.isdecimal():
            return timedelta(seconds=int(text))
        return max(parsedate_to_datetime(text) - datetime.now(UTC), timedelta())
    except (ValueError, TypeError, OverflowError):
        return None
