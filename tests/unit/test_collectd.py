"""collectd's JSON, read."""

import json
from typing import Any

import pytest
from decoding import content_of
from hypothesis import given
from hypothesis import strategies as st

from infrawatch.errors import MalformedBody
from infrawatch.ingest.protocols.collectd import decode
from infrawatch.model.labels import SeriesName
from infrawatch.store.metadata import Metadata

Record = dict[str, Any]


def record(**change: Any) -> Record:
    """A record with one value, as collectd sends it, but for what is changed."""
    usual = {
        "values": [0.5],
        "dstypes": ["gauge"],
        "dsnames": ["value"],
        "time": 1790000000.123,
        "interval": 10.0,
        "host": "web-1",
        "plugin": "memory",
        "plugin_instance": "",
        "type": "memory",
        "type_instance": "used",
        "meta": {"network:received": True},
    }
    return usual | change


def found(*records: Any) -> list[tuple[SeriesName, int, float]]:
    decoded = decode(json.dumps(records).encode())
    names = [decoded.name_of(n) for n in range(len(decoded.keys))]
    rows = zip(names, decoded.times.tolist(), decoded.values.tolist(), strict=True)
    return [(name, time, value) for name, time, value in rows if isinstance(name, SeriesName)]


def test_a_single_value_is_named_by_its_type_with_its_source_as_a_label() -> None:
    labels = {"host": "web-1", "plugin": "memory", "dsname": "value"}

    assert found(record()) == [(SeriesName.of("memory.used", labels), 1790000000123, 0.5)]


def test_several_values_are_distinguished_by_their_names() -> None:
    both = record(
        values=[1, 2.5],
        dstypes=["derive", "derive"],
        dsnames=["read", "write"],
        plugin="disk",
        plugin_instance="sda",
        type="disk_octets",
        type_instance="",
    )
    labels = {"host": "web-1", "plugin": "disk", "plugin_instance": "sda"}

    assert [(name, value) for name, _, value in found(both)] == [
        (SeriesName.of("disk_octets.read", labels), 1.0),
        (SeriesName.of("disk_octets.write", labels), 2.5),
    ]


def test_names_may_bring_labels() -> None:
    with_labels = record(
        host="mwp-signalbox[a=b]",
        plugin_instance="analytics[f=x]-2",
        type_instance="old_gen_end[k1=v1,k2=v2,f=y]",
    )
    expected = {
        "host": "mwp-signalbox",
        "plugin": "memory",
        "plugin_instance": "analytics-2",
        "dsname": "value",
        "a": "b",
        "f": "y",
        "k1": "v1",
        "k2": "v2",
    }

    assert found(with_labels)[0][0] == SeriesName.of("memory.old_gen_end", expected)


@pytest.mark.parametrize("host", ["h[a]", "h[a=b=c]", "h[", "h]", "h[=a]", "h[a=b", "h[]"])
def test_brackets_without_labels_are_part_of_the_name(host: str) -> None:
    assert dict(found(record(host=host))[0][0].labels)["host"] == host


def test_a_value_collectd_did_not_get_is_no_sample() -> None:
    halves = record(values=[None, 2], dstypes=["gauge"] * 2, dsnames=["a", "b"])

    assert [(name.metric, value) for name, _, value in found(halves)] == [("memory.used.b", 2.0)]


def test_notifications_are_skipped() -> None:
    notification = {"host": "h", "severity": "OKAY", "message": "all is well", "time": 1.0}

    assert content_of(decode(json.dumps([notification, record()]).encode())).wrong == []
    assert len(found(notification, record())) == 1


@pytest.mark.parametrize(
    ("source", "metadata"),
    [
        ("gauge", Metadata("gauge")),
        ("counter", Metadata("counter")),
        ("derive", Metadata("counter")),
        ("absolute", Metadata("counter", temporality="delta")),
    ],
)
def test_the_type_of_a_source_is_that_of_its_metric(source: str, metadata: Metadata) -> None:
    decoded = decode(json.dumps([record(dstypes=[source])]).encode())

    assert content_of(decoded).metadata == {"memory.used": metadata}


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"values": ["1"]}, "/1/values/0", "wrong_type"),
        ({"values": [True]}, "/1/values/0", "wrong_type"),
        ({"values": [1, 2]}, "/1", "length_mismatch"),
        ({"dsnames": []}, "/1", "length_mismatch"),
        ({"dstypes": ["meter"]}, "/1/dstypes/0", "unknown_value"),
        ({"time": "now"}, "/1/time", "wrong_type"),
        ({"time": 1e300}, "/1/time", "out_of_range"),
        ({"host": None}, "/1/host", "wrong_type"),
        ({"host": "a\0b"}, "/1/values/0", "invalid_label_value"),
        ({"type": "", "type_instance": ""}, "/1/values/0", "invalid_metric"),
        ({"type": "a\nb"}, "/1/values/0", "invalid_metric"),
        ({"host": "h[a\x01=b]"}, "/1/values/0", "invalid_label_name"),
        ({"plugin": "p" * 4097}, "/1/values/0", "too_long"),
    ],
)
def test_an_invalid_record_is_refused_alone_with_its_position(
    change: Record, pointer: str, code: str
) -> None:
    decoded = decode(json.dumps([record(), record(**change), record()]).encode())

    assert content_of(decoded).wrong == [(1, pointer, code)]
    assert len(content_of(decoded).series) == 2


@pytest.mark.parametrize("body", [b"NaN", b"1e999"])
def test_a_value_that_is_not_finite_is_refused(body: bytes) -> None:
    text = json.dumps([record()]).encode().replace(b"0.5", body)

    assert content_of(decode(text)).wrong == [(0, "/0/values/0", "not_finite")]


def test_a_record_that_lacks_a_field_is_refused_with_its_name() -> None:
    incomplete = record()
    del incomplete["host"]

    assert content_of(decode(json.dumps([incomplete]).encode())).wrong == [
        (0, "/0/host", "missing_field")
    ]


def test_all_values_of_a_wrong_record_count_as_rejected() -> None:
    assert (
        content_of(decode(json.dumps([record(values=[1, 2, "x"])]).encode())).rejected_samples == 3
    )


@pytest.mark.parametrize("body", [b"", b"{}", b"PUTVAL a/b/c 1:2", b'"\xff"', b"[" * 100_000])
def test_a_body_that_is_no_array_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        json_values
        | st.dictionaries(st.sampled_from(sorted(record())), json_values).map(
            lambda change: record(**change)
        ),
        max_size=3,
    )
)
def test_no_array_breaks_the_decoder_and_every_record_gets_a_verdict(records: list[Any]) -> None:
    result = content_of(decode(json.dumps(records).encode()))

    values = sum(
        sum(value is not None for value in one["values"])
        if isinstance(one, dict) and isinstance(one.get("values"), list)
        else 1
        for one in records
    )
    assert sum(len(samples) for _, samples in result.series) + result.rejected_samples >= values
