"""Request headers: found as by Starlette."""

from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from infrawatch.access.requests.headers import find_header

names = st.sampled_from(["host", "origin", "content-type"])


@given(st.lists(st.tuples(names, st.text(st.characters(max_codepoint=255)))), names)
def test_the_first_header_of_a_name_is_found(headers: list[tuple[str, str]], name: str) -> None:
    raw = [(one.encode(), value.encode("latin-1")) for one, value in headers]

    assert find_header({"headers": raw}, name.encode(), None) == Headers(raw=raw).get(name)
