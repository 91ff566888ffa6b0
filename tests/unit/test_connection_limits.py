"""How many connections one sender may have, however many addresses it has."""

from asyncio import BaseTransport

import pytest

from infrawatch.server.connection_limits import ConnectionLimits
from infrawatch.settings import Settings


def limits(**settings: object) -> ConnectionLimits:
    return ConnectionLimits(Settings.model_validate({"max_connections_per_address": 1, **settings}))


@pytest.mark.parametrize(
    "addresses",
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", "::ffff:10.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", ""),
    ],
)
def test_addresses_of_one_sender_are_counted_together(addresses: tuple[str, str]) -> None:
    one = limits()

    assert [one.admit(BaseTransport(), address) for address in addresses] == [None, "address"]


@pytest.mark.parametrize(
    "addresses", [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:0:1::1")]
)
def test_different_senders_are_not(addresses: tuple[str, str]) -> None:
    one = limits()

    assert [one.admit(BaseTransport(), address) for address in addresses] == [None, None]


def test_a_trusted_proxy_counts_for_the_total_only() -> None:
    one = limits(trusted_proxies="10.0.0.0/8, ::1/128", max_connections=3)

    assert [one.admit(BaseTransport(), "10.1.2.3") for _ in range(4)] == [None, None, None, "total"]


def test_zero_is_any_number() -> None:
    one = limits(max_connections_per_address=0)

    assert {one.admit(BaseTransport(), "10.0.0.1") for _ in range(10_000)} == {None}


def test_releases_without_an_admission_are_not_counted() -> None:
    one, admitted, refused = limits(), BaseTransport(), BaseTransport()

    assert one.admit(admitted, "10.0.0.1") is None
    assert one.admit(refused, "10.0.0.1") == "address"
    one.release(refused)
    assert one.admit(refused, "10.0.0.1") == "address"
    one.release(admitted)
    one.release(admitted)
    assert one.admit(BaseTransport(), "10.0.0.1") is None
    assert one.admit(BaseTransport(), "10.0.0.1") == "address"
