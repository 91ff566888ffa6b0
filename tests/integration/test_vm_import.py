"""POST /api/v1/import, as one moves here from VictoriaMetrics."""

import gzip
import json

from httpx import AsyncClient
from pushing import find_stored, now_ms

from infrawatch.store.database import Database


def line(metric: str, *samples: tuple[int, float], **labels: str) -> str:
    times, values = zip(*samples, strict=True)
    return json.dumps(
        {"metric": {"__name__": metric, **labels}, "values": values, "timestamps": times}
    )


async def test_an_export_is_stored(client: AsyncClient, database: Database) -> None:
    now = now_ms()
    body = "\n".join([line("up", (now, 1), (now + 1, 0), host="a"), line("up", (now, 1), host="b")])

    answer = await client.post(
        "/api/v1/import",
        params=[("extra_label", "env=test"), ("extra_label", "from=vm")],
        content=gzip.compress(body.encode()),
        headers={"Content-Encoding": "gzip"},
    )

    assert (answer.status_code, answer.content) == (204, b"")
    more = {"env": "test", "from": "vm"}
    assert await find_stored(database, "up") == [
        ({"host": "a", **more}, now * 1_000, 1),
        ({"host": "a", **more}, now * 1_000 + 1_000, 0),
        ({"host": "b", **more}, now * 1_000, 1),
    ]


async def test_a_bad_line_is_named_and_the_good_ones_are_stored(
    client: AsyncClient, database: Database
) -> None:
    now = now_ms()
    body = "\n".join([line("up", (now, 1)), "{", line("up", (5, 1))])

    answer = await client.post("/api/v1/import", content=body)

    assert answer.status_code == 400
    first, second = answer.text.splitlines()
    assert first.startswith("2 samples refused, 1 stored; line 2: malformed_json")
    assert second.startswith("line 3, /timestamps/0: too_old: ")
    assert await find_stored(database, "up") == [({}, now * 1_000, 1)]


async def test_an_extra_label_without_a_value_is_refused(client: AsyncClient) -> None:
    answer = await client.post("/api/v1/import", params={"extra_label": "env"}, content="")

    assert answer.status_code == 422
    assert "name=value" in answer.text
