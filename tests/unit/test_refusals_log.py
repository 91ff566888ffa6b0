"""An attack is counted whole, and fills neither memory nor the log."""

from ipaddress import IPv4Address

import pytest
from starlette.requests import HTTPConnection
from structlog.testing import capture_logs

from infrawatch.access.requests import refusals
from infrawatch.telemetry import Telemetry


def coming_from(address: str) -> HTTPConnection:
    return HTTPConnection({"type": "http", "client": (address, 1)})


def test_the_log_of_a_distributed_attack_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telemetry, now = Telemetry(), 0.0
    monkeypatch.setattr(refusals, "monotonic", lambda: now)
    noting = refusals.Refusals(telemetry)
    addresses = [str(IPv4Address(number)) for number in range(2_000)]

    with capture_logs() as lines:
        for address in addresses:
            noting.note(coming_from(address), "wrong_key")
        first_minute = len(lines)
        now = 60.0
        noting.note(coming_from(addresses[0]), "wrong_key")
        noting.note(coming_from(addresses[0]), "wrong_key")

    assert first_minute == 1_000
    assert [one["address"] for one in lines[first_minute:]] == [addresses[0]]
    assert b'{reason="wrong_key"} 2002.0' in telemetry.exposition()
