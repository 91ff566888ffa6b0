"""The native formats, JSON and NDJSON: bytes → columns and verdicts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from infrawatch.errors import MalformedBody
from infrawatch.ingest import schemas
from infrawatch.ingest.decoded import Decoded, Find, Locate, NameOf
from infrawatch.ingest.decoding.json_errors import line_problem, malformed
from infrawatch.ingest.native.explain import explain
from infrawatch.ingest.native.regular import (
    batch_too_large,
    decode_regular,
    has_too_many_keys,
    to_columns,
    to_metadata,
)
from infrawatch.ingest.scheduling.loop_budget import check_budget
from infrawatch.ingest.series.layouts import Layouts
from infrawatch.ingest.verdicts import Verdict, Verdicts
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}

_MAX_COMMAS = 2_000_000
"""Twice as many as in the largest valid batch; parsing more, only to refuse it, costs 100 MB."""

_NUL = b"\\u0000"
"""Keys join names and values with NUL, so a body that contains one takes the careful path."""

_MAX_FIELDS = 100
"""An object with more fields than this gets one error, instead of one per unknown field."""

_OFF_LOOP_BYTES = 1024 * 1024
"""Limit for bodies in the regular form; decoding this much takes ten milliseconds."""

_QUICK_OFF_LOOP_BYTES = 128 * 1024
"""Limit for valid bodies in any other form."""

_CAREFUL_OFF_LOOP_BYTES = 4 * 1024
"""Limit for invalid bodies: two bytes may be a sample, each with an error of its own."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A series of the right shape, with its position and the positions of its samples in it."""

    index: int
    pointer: str
    series: dict[str, Any]
    places: Sequence[int] | None = None


def decode_json(
    body: bytes,
    precision: str,
    find: Find,
    layouts: Layouts | None = None,
    *,
    on_loop: bool = False,
) -> Decoded:
    """Read `{"series": [...]}`.

    Raises:
        MalformedBody: the body is not JSON.
        BatchTooLarge: more than 10,000 series or 50,000 samples.
        BlocksLoop: on the loop only, if it would take too long.
    """
    _check_size(body)
    check_budget(on_loop=on_loop, is_long=len(body) > _OFF_LOOP_BYTES)
    regular = decode_regular(body, UNIT_NS[precision], find, layouts, on_loop=on_loop)
    if regular is not None:
        return regular
    check_budget(on_loop=on_loop, is_long=len(body) > _QUICK_OFF_LOOP_BYTES)
    verdicts = Verdicts()
    series = _read_quickly(body)
    is_long = not series and len(body) > _CAREFUL_OFF_LOOP_BYTES
    check_budget(on_loop=on_loop, is_long=is_long)
    items = (
        [_Item(index, f"/series/{index}", one) for index, one in enumerate(series)]
        if series
        else list(_read_carefully(body, verdicts))
    )
    return _to_decoded(items, verdicts, precision)


def decode_ndjson(body: bytes, precision: str, *, on_loop: bool = False) -> Decoded:
    """Read one series object per line; empty lines are skipped, lines are numbered from 1.

    Raises:
        MalformedBody: the body has no non-empty line.
        BatchTooLarge: more than 10,000 series or 50,000 samples.
        BlocksLoop: on the loop only, if it would take too long.
    """
    _check_size(body)
    check_budget(on_loop=on_loop, is_long=len(body) > _QUICK_OFF_LOOP_BYTES)
    verdicts = Verdicts()
    items: list[_Item] = []
    lines = [(n, line) for n, line in enumerate(body.split(b"\n"), start=1) if line.strip()]
    if not lines:
        raise MalformedBody("the body is empty: send one series object a line")
    if len(lines) > schemas.MAX_BATCH_SERIES:
        raise batch_too_large()
    is_quick = on_loop and len(body) > _CAREFUL_OFF_LOOP_BYTES
    for number, line in lines:
        items.extend(_read_line(line, number, verdicts, is_quick=is_quick))
    return _to_decoded(items, verdicts, precision)


def _check_size(body: bytes) -> None:
    if len(body) > _MAX_COMMAS and body.count(b",") > _MAX_COMMAS:
        raise batch_too_large()


def _read_quickly(body: bytes) -> Sequence[Any]:
    """Read the series of a body of the right shape; empty if it needs the careful path."""
    if _NUL in body or has_too_many_keys(body):
        return ()
    try:
        return schemas.BATCH_SHAPE.validate_json(body)["series"]
    except ValidationError:
        return ()


def _read_line(line: bytes, number: int, verdicts: Verdicts, *, is_quick: bool) -> Iterator[_Item]:
    if not (_NUL in line or has_too_many_keys(line)):
        with suppress(ValidationError):  # the careful path finds the errors
            yield _Item(number, "", cast(Any, schemas.SERIES_SHAPE.validate_json(line)))
            return
    check_budget(on_loop=is_quick, is_long=True)
    try:
        one = from_json(line, cache_strings="keys")
    except ValueError as error:
        verdicts.add(Verdict(number, "", "malformed_json", line_problem(line, error)))
        return
    yield from _checked(one, number, "", verdicts)


def _read_carefully(body: bytes, verdicts: Verdicts) -> Iterator[_Item]:
    """Check the series one by one, so that every error is found at a bounded cost."""
    try:
        document = from_json(body, cache_strings="keys")
    except ValueError as error:
        raise malformed(body, error, may_be_lines=True) from None
    errors = _find_errors(schemas.ENVELOPE, document)
    if errors:
        _refuse(errors, 0, "", verdicts)
        return
    series = document["series"]
    is_long = len(series) > schemas.MAX_BATCH_SERIES
    if is_long or sum(map(_count_samples, series)) > schemas.MAX_BATCH_SAMPLES:
        raise batch_too_large()
    for index, one in enumerate(series):
        yield from _checked(one, index, f"/series/{index}", verdicts)


def _checked(one: object, index: int, pointer: str, verdicts: Verdicts) -> Iterator[_Item]:
    """Check one series against the full schema; if only samples are invalid, keep the others."""
    errors = _find_series_errors(schemas.OUTLINE, one)
    samples = one["samples"] if isinstance(one, dict) and _count_samples(one) else []
    if errors:
        _refuse(errors, index, pointer, verdicts, samples=len(samples))
    places: list[int] = []
    for place, sample in enumerate(samples):
        wrong = _find_errors(schemas.SAMPLE, sample, within=("samples", place))
        if wrong:
            _refuse(wrong, index, pointer, verdicts, samples=0 if errors else 1)
        else:
            places.append(place)
    if places and not errors:
        assert isinstance(one, dict)
        fitting = [samples[place] for place in places]
        yield _Item(index, pointer, {**one, "samples": fitting}, places)


def _to_decoded(items: Sequence[_Item], verdicts: Verdicts, precision: str) -> Decoded:
    all_series = [item.series for item in items]
    counts, times, values = to_columns(all_series)
    return Decoded(
        keys=[_key(one["metric"], one.get("labels", {})) for one in all_series],
        name_of=_namer(items),
        locate=_locator(items),
        counts=counts,
        times=times,
        values=values,
        unit_ns=UNIT_NS[precision],
        metadata=_to_metadata(all_series),
        verdicts=verdicts,
    )


def _to_metadata(all_series: Iterable[Mapping[str, Any]]) -> Mapping[str, Metadata]:
    """Collect the metadata of metrics, except those with invalid names, which are refused later."""
    return {
        metric: one
        for metric, one in to_metadata(all_series).items()
        if not _find_errors(schemas.METRIC, metric)
    }


def _key(metric: str, labels: dict[str, str]) -> str:
    """Equal keys mean equal names, because no part contains the separator NUL."""
    return "\0".join((metric, *labels, *labels.values()))


def _namer(items: Sequence[_Item]) -> NameOf:
    def name_of(number: int) -> SeriesName | list[Verdict]:
        item = items[number]
        errors = _find_series_errors(schemas.NAME, item.series)
        if not errors:
            return SeriesName.of(item.series["metric"], item.series.get("labels", {}))
        refused = Verdicts()
        samples = len(item.series["samples"])
        _refuse(errors, item.index, item.pointer, refused, samples=samples)
        return refused.shown

    return name_of


def _locator(items: Sequence[_Item]) -> Locate:
    def locate(number: int, sample: int) -> tuple[int, str]:
        item = items[number]
        place = sample if item.places is None else item.places[sample]
        return item.index, f"{item.pointer}/samples/{place}/0"

    return locate


def _find_series_errors(check: TypeAdapter[Any], one: object) -> list[ErrorDetails]:
    """Find all errors of a series; too many labels are one error, without one for each label."""
    labels = one.get("labels") if isinstance(one, dict) else None
    if isinstance(labels, dict) and len(labels) > schemas.MAX_LABELS:
        message = f"a series has at most {schemas.MAX_LABELS} labels, this has {len(labels)}"
        return [ErrorDetails(type="labels", loc=("labels",), msg=message, input=None)]
    return _find_errors(check, one)


def _find_errors(
    check: TypeAdapter[Any], one: object, within: tuple[str | int, ...] = ()
) -> list[ErrorDetails]:
    if isinstance(one, dict) and len(one) > _MAX_FIELDS:
        message = f"{len(one)} fields, far more than are known here"
        return [ErrorDetails(type="unknown_fields", loc=(), msg=message, input=None)]
    try:
        check.validate_python(one)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return [{**one_error, "loc": within + one_error["loc"]} for one_error in found]
    return []


def _refuse(
    errors: Sequence[ErrorDetails],
    index: int,
    pointer: str,
    verdicts: Verdicts,
    *,
    samples: int = 0,
) -> None:
    """Add a verdict for each error; the first of them accounts for the samples."""
    if verdicts.is_full:
        verdicts.count_only(explain(errors[0]).code, verdicts=len(errors), samples=samples)
        return
    for found in errors:
        path, code, detail = explain(found)
        verdicts.add(Verdict(index, pointer + path, code, detail, samples))
        samples = 0


def _count_samples(one: object) -> int:
    samples = one.get("samples") if isinstance(one, dict) else None
    return len(samples) if isinstance(samples, list) else 0
