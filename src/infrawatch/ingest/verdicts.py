"""Verdicts: the refused items of a batch, their positions and the reasons."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

MAX_SHOWN = 100
"""More than anyone reads; keeps the response to an invalid batch smaller than the batch."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one item of a batch is refused.

    `index` counts series from 0, or lines from 1 where a format has lines; `locator` is a JSON
    pointer if the format is JSON, else a short description. `samples` is the number of samples
    that it refuses: 0 if another verdict counts them already.
    """

    index: int
    locator: str
    code: str
    detail: str
    samples: int = 1


class Verdicts:
    """The verdicts on one batch: all are counted, the first hundred are kept; sorted by index."""

    def __init__(self) -> None:
        self.shown: list[Verdict] = []
        self.total = 0
        self.samples_by_code: Counter[str] = Counter()

    def add(self, verdict: Verdict) -> None:
        self.total += 1
        self.samples_by_code[verdict.code] += verdict.samples
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(verdict)

    def count_only(self, code: str, *, verdicts: int, samples: int) -> None:
        """Count verdicts that would no longer be shown."""
        self.total += verdicts
        self.samples_by_code[code] += samples

    @property
    def is_full(self) -> bool:
        """Whether further verdicts are only counted."""
        return len(self.shown) >= MAX_SHOWN

    @property
    def rejected_samples(self) -> int:
        return self.samples_by_code.total()

    def __bool__(self) -> bool:
        return self.total > 0

    def __iter__(self) -> Iterator[Verdict]:
        return iter(sorted(self.shown, key=lambda verdict: verdict.index))


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: `1 sample`, `2 samples`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
