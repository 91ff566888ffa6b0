"""Updates: an entry's samples for one topic, encoded when first sent and then shared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from uuid import UUID

import numpy as np
from pydantic_core import to_json

from infrawatch.model.cursor import Cursor
from infrawatch.model.samples import Columns, latest_arrivals, series_bounds
from infrawatch.model.wire import US_PER, WireValue, to_wire_times, to_wire_values

FEW = 64
"""Up to this many samples, numpy's cost per call exceeds what it saves per sample."""

_BySeries = dict[str, list[tuple[int, WireValue]]]


@dataclass(eq=False)
class Position:
    """The tail's position after an entry; its text is built once, when first needed."""

    epoch: UUID
    at_us: int
    seqs: Mapping[int, int]

    @cached_property
    def text(self) -> str:
        return Cursor(self.epoch, self.at_us, self.seqs).to_text()


class EntrySamples:
    """Samples of one entry that several topics want: by series, by time, unique.

    Topics mostly want the same series, so each series is encoded once for all of them.
    """

    def __init__(self, ordered: Columns) -> None:
        self.columns = ordered
        self.bounds = series_bounds(ordered.series_ids)

    @cached_property
    def texts(self) -> Sequence[str]:
        """`"<series id>": [[time, value], …]` of each series, encoded when first sent."""
        columns, bounds = self.columns, self.bounds
        times, values = to_wire_times(columns.times_us), to_wire_values(columns.values)
        pairs = list(zip(times, values, strict=True))
        spans = pairwise(bounds.tolist())
        # One call for all series: a call costs as much as the encoding. Values have no brackets.
        encoded = to_json([pairs[start:end] for start, end in spans]).decode()
        ids = columns.series_ids[bounds[:-1]].tolist()
        bare = encoded.removeprefix("[[[").removesuffix("]]]").split("]],[[")
        return [f'"{one}":[[{text}]]' for one, text in zip(ids, bare, strict=True)]


class SharedPart:
    """One topic's part of an entry: the series at `places`, with `samples` samples in total."""

    def __init__(self, entry: EntrySamples, places: Sequence[int], samples: int) -> None:
        self._entry = entry
        self._places = places
        self._samples = samples

    def __len__(self) -> int:
        return self._samples

    @property
    def columns(self) -> Columns:
        bounds = self._entry.bounds
        spans = [np.arange(bounds[place], bounds[place + 1]) for place in self._places]
        return self._entry.columns.picked(np.concatenate(spans))

    @cached_property
    def json(self) -> str:
        texts = self._entry.texts
        return "{" + ",".join([texts[place] for place in self._places]) + "}"


class OwnPart:
    """Samples in order of arrival that are not shared with other topics."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def json(self) -> str:
        return encode_samples(self.columns)


Part = SharedPart | OwnPart
"""Samples for one topic; `json` is their text in a frame, made when first sent."""


@dataclass(eq=False)
class Update:
    """Samples of entries for one topic; `position` is the tail's position after the last entry."""

    reached: Mapping[int, int]
    """By writer, the seq of the last entry included."""

    part: Part
    position: Position
    coalesced: int = 0
    """The number of samples left out because the update has a newer one of their series."""

    def is_within(self, seqs: Mapping[int, int]) -> bool:
        """Whether a snapshot at `seqs` contains the whole update."""
        return all(seq <= seqs.get(writer, 0) for writer, seq in self.reached.items())

    def detach(self) -> None:
        """Keep only this topic's samples in memory, because the update will not be sent soon."""
        if isinstance(self.part, SharedPart):
            self.part = OwnPart(self.part.columns)


def joined(updates: Sequence[Update]) -> Update:
    """Several updates in a row as one, without losing a sample."""
    return Update(
        {writer: seq for update in updates for writer, seq in update.reached.items()},
        OwnPart(Columns.joined([update.part.columns for update in updates])),
        updates[-1].position,
        sum(update.coalesced for update in updates),
    )


def folded(updates: Sequence[Update]) -> Update:
    """Several updates as one with the newest sample of each series; the others are counted."""
    every = joined(updates)
    ordered = latest_arrivals(every.part.columns)
    newest = ordered.picked(series_bounds(ordered.series_ids)[1:] - 1)
    left_out = every.coalesced + len(every.part) - len(newest)
    return Update(every.reached, OwnPart(newest), every.position, left_out)


def encode_samples(columns: Columns) -> str:
    """Samples in order of arrival as the `samples` of a frame: by series, by time, unique."""
    by_series = _few_by_series(columns) if len(columns) <= FEW else _many_by_series(columns)
    return to_json(by_series).decode()


def _few_by_series(columns: Columns) -> _BySeries:
    ids, times = columns.series_ids.tolist(), columns.times_us.tolist()
    values: list[WireValue] = columns.values.tolist()
    if not np.isfinite(columns.values).all():
        values = to_wire_values(columns.values)
    found: dict[int, dict[int, WireValue]] = {}
    for series_id, time, value in zip(ids, times, values, strict=True):
        found.setdefault(series_id, {})[time] = value  # the last arrival stays
    return {
        str(series_id): [(time // US_PER["ms"], value) for time, value in sorted(samples.items())]
        for series_id, samples in sorted(found.items())
    }


def _many_by_series(columns: Columns) -> _BySeries:
    ordered = latest_arrivals(columns)
    times = to_wire_times(ordered.times_us)
    values = to_wire_values(ordered.values)
    pairs = list(zip(times, values, strict=True))
    bounds = series_bounds(ordered.series_ids)
    ids = ordered.series_ids[bounds[:-1]].tolist()
    spans = pairwise(bounds.tolist())
    return {str(one): pairs[start:end] for one, (start, end) in zip(ids, spans, strict=True)}
