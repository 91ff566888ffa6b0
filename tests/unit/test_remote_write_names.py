"""Names of remote write, read in parts that series share: never otherwise than as a whole."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from protobuf_wire import label

from infrawatch.ingest.protocols.remote_write import version1, version2
from infrawatch.ingest.protocols.remote_write.labels import KeyForm, find_plain_name, read_name

Pairs = Sequence[tuple[bytes, bytes]]
NAMED = (b"__name__", b"up")
TEXTS = (b"", b"__name__", b"up", b"host", b"web-1", "größe".encode(), b"\x00", b"\x85", b"x" * 201)


def first_key(pairs: Pairs) -> bytes:
    return b"".join(label(name, value) for name, value in pairs)


def second_key(pairs: Pairs) -> bytes:
    return b"".join(text + b"\xff" for pair in pairs for text in pair)


both_versions = pytest.mark.parametrize(
    ("form", "key_of"), [(version1.KEY_FORM, first_key), (version2.KEY_FORM, second_key)]
)


@both_versions
@example([NAMED, (b"__name__", b"")])
@example([NAMED, NAMED])
@example([NAMED, (b"host", b"web-1"), (b"host", b"")])
@example([NAMED, (b"host", b"web-1"), (b"host", b"web-2")])
@example([(b"host", b"web-1"), NAMED])
@given(st.lists(st.tuples(*2 * [st.sampled_from(TEXTS)]) | st.just(NAMED), max_size=5))
def test_a_name_read_in_parts_is_the_one_read_as_a_whole(
    form: KeyForm, key_of: Callable[[Pairs], bytes], pairs: Pairs
) -> None:
    key = key_of(pairs)

    for _ in range(2):  # the second time its parts are known
        assert find_plain_name(form, key) in (None, read_name(form.to_pairs(key)))


@both_versions
def test_usual_names_are_read_in_parts(form: KeyForm, key_of: Callable[[Pairs], bytes]) -> None:
    labels = [(b"host", b"web-1"), (b"empty", b""), (b"device", b"sda")]

    for metric in (b"up", b"load"):
        key = key_of([(b"__name__", metric), *labels])

        assert find_plain_name(form, key) == read_name(form.to_pairs(key))
