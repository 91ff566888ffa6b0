"""Good bodies, damaged: what decoders meet when networks and attackers do their worst."""

from hypothesis import strategies as st

_PIECES = st.binary(max_size=12) | st.sampled_from(
    [
        *(b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80" * 11),
        *(b"\0", b"\n", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"=", b" ", b"#", b"\xff"),
        *(
            b"-1",
            b"1e999",
            b"NaN",
            b"null",
            b"true",
            b"9" * 25,
            b"\\u0000",
            b"\\ud800",
            b"\xc0\x80",
        ),
        *(b"__name__", b"{" * 2_000, b"[" * 2_000, b'"a":', b"\x0a\x7f", b"\x12\x00"),
    ]
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """A good body after a few cuts, repetitions and insertions anywhere in it."""
    body = good
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 64)))
        middle = draw(_PIECES | st.just(body[start:end] * 2) | st.just(body[start:end][::-1]))
        body = body[:start] + middle + body[end:]
    return body if draw(st.booleans()) else body[: draw(st.integers(0, len(body)))]
