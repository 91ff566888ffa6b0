"""Types that the client sends and returns: series, samples, receipts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from infrawatch.model.timerange import from_us

MetricType = Literal["gauge", "counter", "histogram", "summary", "unknown"]


class Sample(NamedTuple):
    """`at` is timezone-aware. In results, `value` is None for a stale marker or an empty step."""

    at: datetime
    value: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one series, with optional metadata of its metric."""

    metric: str
    labels: Mapping[str, str]
    samples: Sequence[Sample | tuple[datetime, float]]
    type: MetricType | None = None
    unit: str | None = None
    help: str | None = None


class Answer(BaseModel):
    """A response; fields that other server versions add are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Verdict(Answer):
    """The outcome for one item; `pointer` (RFC 6901) is its position in the batch."""

    pointer: str
    code: str
    detail: str = ""


class Receipt(Answer):
    """Proof that `accepted` samples are on disk; `cursor` is for `query(wait_for=…)`.

    `errors` lists the first hundred refused items.
    """

    accepted: int
    rejected: int
    cursor: str | None = None
    errors: tuple[Verdict, ...] = ()


class FoundSeries(Answer):
    metric: str
    labels: dict[str, str]
    samples: list[tuple[int, float | None]]

    def to_series(self) -> Series:
        samples = [Sample(from_us(at_us), value) for at_us, value in self.samples]
        return Series(self.metric, self.labels, samples)


class Found(Answer):
    series: list[FoundSeries]
