"""Names of unknown series: each is read and checked once, up to a limit per request."""

from collections.abc import Hashable, Iterator, Sequence

from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.verdicts import Verdict
from infrawatch.model.labels import SeriesName

MAX_NEW_SERIES = 50_000
MAX_NEW_LABELS = 500_000
"""Maximum for all new series of a request together; by default senders send at most 10,000 samples.
Reading a name and creating its series takes 100 µs, and as much again for every ten labels."""

TOO_MANY_NEW = "too_many_new_series"
_WHAT_TO_DO = (
    f"a request brings at most {MAX_NEW_SERIES} series that are not known yet, with "
    f"{MAX_NEW_LABELS} labels, and this one is beyond them: send smaller batches"
)


_PART = 20
"""Number of names that takes about a fifth of a millisecond to read."""

Names = dict[int, SeriesName]
"""Names by the position of their series in the batch."""


def read_names(decoded: Decoded, ids: Sequence[int | None]) -> Iterator[Names]:
    """Yield the names of series without an id, in parts; invalid names get verdicts instead."""
    names: Names = {}
    read: dict[Hashable, SeriesName] = {}  # a request may name a series for every sample
    series_left, labels_left = MAX_NEW_SERIES, MAX_NEW_LABELS
    unknown = (place for place, series_id in enumerate(ids) if series_id is None)
    for done, number in enumerate(unknown, start=1):
        key = decoded.keys[number]
        if key in read:
            names[number] = read[key]
        elif series_left and labels_left > 0:
            series_left -= 1
            name = decoded.name_of(number)
            if isinstance(name, SeriesName):
                names[number] = read[key] = name
                labels_left -= len(name.labels)
            else:
                for verdict in name:
                    decoded.verdicts.add(verdict)
        else:
            _refuse(decoded, number)
        if done % _PART == 0:
            yield names
            names = {}
    yield names


def _refuse(decoded: Decoded, number: int) -> None:
    samples = int(decoded.counts[number])
    if decoded.verdicts.is_full:
        decoded.verdicts.count_only(TOO_MANY_NEW, verdicts=1, samples=samples)
        return
    index, locator = decoded.locate(number, 0)
    decoded.verdicts.add(Verdict(index, locator, TOO_MANY_NEW, _WHAT_TO_DO, samples))
