"""Keys as text, and the forms in which requests bring them."""

import base64
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from infrawatch.access.keys.credentials import ApiKey, find_credential

NOT_A_COLON = st.characters(exclude_characters=":", exclude_categories=["Cs"])


def connection(path: str = "/v1/samples", query: str = "", **headers: str) -> HTTPConnection:
    return HTTPConnection(
        {
            "type": "http",
            "path": path,
            "query_string": query.encode(),
            "headers": [
                (name.replace("_", "-").encode(), value.encode("latin-1"))
                for name, value in headers.items()
            ],
        }
    )


def test_a_key_has_256_random_bits_and_is_stored_as_its_sha_256() -> None:
    keys = {ApiKey.generate() for _ in range(100)}

    assert len({key.id for key in keys}) == len({key.text for key in keys}) == 100
    for key in keys:
        secret = key.text.removeprefix(f"iw_{key.id}_")
        assert 62 ** len(secret) > 2**256
        assert key.digest == sha256(key.text.encode()).digest()
        assert ApiKey.find(key.text) == key


@given(st.text())
def test_a_credential_that_is_no_key_is_ignored(text: str) -> None:
    assert ApiKey.find(text) is None
    assert ApiKey.find(f"iw_{text}") is None


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_a_credential_and_never_an_error(header: str) -> None:
    for scheme in ("", "Bearer ", "Token ", "Basic ", "Negotiate "):
        assert isinstance(find_credential(connection(authorization=scheme + header)), str)
    assert find_credential(connection(x_api_key=header)) == header.strip()


@given(st.text(NOT_A_COLON), st.text(st.characters(exclude_categories=["Cs"])))
def test_basic_authentication_uses_the_password_and_any_user(user: str, password: str) -> None:
    header = base64.b64encode(f"{user}:{password}".encode()).decode()

    assert find_credential(connection(authorization=f"Basic {header}")) == password


def test_a_request_without_headers_has_no_credential() -> None:
    assert find_credential(connection()) is None
    assert find_credential(connection(query="u=a&p=iw_b_c")) is None
    assert find_credential(connection("/write", "u=a")) is None


@given(st.lists(st.sampled_from([*"up=&;%+", "%70", "%3D", "%C3%BC", "\u00fc", "iw_b_c"])))
def test_a_query_string_is_read_as_starlette_reads_it(pieces: list[str]) -> None:
    one = connection("/write", "".join(pieces))

    assert find_credential(one) == one.query_params.get("p")


def test_influx_1_may_put_it_into_the_url() -> None:
    assert find_credential(connection("/write", "u=a&p=iw_b_c")) == "iw_b_c"
    assert find_credential(connection("/write", "p=b", authorization="Token c")) == "c"
