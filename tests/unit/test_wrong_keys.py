"""Clients that try many keys must wait, others need not, and memory is bounded."""

from infrawatch.access.keys.wrong_keys import AT_ONCE, MAX_SITES, ONE_MORE_S, WrongKeys
from infrawatch.access.limits.rates import Rates
from infrawatch.access.requests.sites import site_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def tries(wrong_keys: WrongKeys, address: str, times: int = 100) -> int:
    """How many of several concurrent wrong keys are checked."""
    return [await wrong_keys.add(site_of(address)) for _ in range(times)].count(None)


async def test_only_some_wrong_keys_are_checked_and_then_one_at_a_time() -> None:
    clock = Clock()
    wrong_keys = WrongKeys(Rates(None), "wrong_keys", clock)

    assert await tries(wrong_keys, "192.0.2.1") == AT_ONCE < 20
    wait = await wrong_keys.add("192.0.2.1")
    assert wait is not None
    assert wait.total_seconds() == ONE_MORE_S

    clock.now += ONE_MORE_S
    assert await tries(wrong_keys, "192.0.2.1") == 1
    clock.now += 1000 * ONE_MORE_S
    assert await tries(wrong_keys, "192.0.2.1") == AT_ONCE


async def test_addresses_are_apart_but_those_of_one_ipv6_network_are_not() -> None:
    wrong_keys = WrongKeys(Rates(None), "wrong_keys", Clock())

    assert await tries(wrong_keys, "192.0.2.1") == await tries(wrong_keys, "192.0.2.2") == AT_ONCE
    assert await tries(wrong_keys, "2001:db8::1") == AT_ONCE
    assert await tries(wrong_keys, "2001:db8::ffff:2") == 0
    assert await tries(wrong_keys, "2001:db8:0:1::1") == AT_ONCE
    assert await tries(wrong_keys, "::ffff:192.0.2.1") == 0, (
        "the same address on a dual-stack socket"
    )
    assert await tries(wrong_keys, "fe80::1%eth0") == AT_ONCE


async def test_an_attack_from_everywhere_takes_bounded_memory() -> None:
    wrong_keys = WrongKeys(Rates(None), "wrong_keys", Clock())
    for number in range(MAX_SITES + 1):
        await wrong_keys.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(wrong_keys._paid_until) == MAX_SITES
