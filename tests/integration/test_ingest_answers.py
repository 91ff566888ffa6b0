"""POST /v1/samples: the responses to valid and invalid bodies."""

import json
from typing import Any

import pytest
from httpx import AsyncClient
from pushing import batch, find_values, now_ms, push, push_lines, series
from viewing import metric, until

from infrawatch.ingest.schemas import MAX_BATCH_SAMPLES
from infrawatch.model.cursor import Cursor
from infrawatch.store.database import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRONG: list[tuple[str, dict[str, Any], str, Any]] = [
    ("invalid_metric", {"metric": "9lives"}, "/metric", "9lives"),
    ("too_long", {"metric": "a" * 201}, "/metric", "a" * 201),
    ("invalid_label_name", {"labels": {"a/b~": "c"}}, "/labels/a~1b~0", "c"),
    ("invalid_label_value", {"labels": {"a": "\0"}}, "/labels/a", "\0"),
    ("unknown_value", {"type": "meter"}, "/type", "meter"),
    ("invalid_text", {"help": "\0"}, "/help", "\0"),
    ("unknown_field", {"tags": {}}, "/tags", {}),
    ("empty", {"samples": []}, "/samples", []),
    ("wrong_type", {"samples": [["1", 1]]}, "/samples/0/0", "1"),
    ("wrong_type", {"samples": [[1, True]]}, "/samples/0/1", True),
    ("out_of_range", {"samples": [[2**63, 1]]}, "/samples/0/0", 2**63),
    ("not_finite", {"samples": [[1, float("inf")]]}, "/samples/0/1", float("inf")),
    ("too_old", {"samples": [[1, 1]]}, "/samples/0/0", 1),
    ("too_far_in_future", {"samples": [[10**15, 1]]}, "/samples/0/0", 10**15),
]


def resolve(document: Any, pointer: str) -> Any:
    """What a JSON pointer points to (RFC 6901, section 4)."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def wrong_series(metric: str) -> list[dict[str, Any]]:
    return [{**series(metric), **change} for _, change, _, _ in WRONG]


async def test_stored_samples_are_acknowledged_with_a_cursor(shared_client: AsyncClient) -> None:
    answer = await push(shared_client, series("ok", [now_ms(), 1], [now_ms() + 1, 2.5]))

    assert answer.status_code == 200
    receipt = answer.json()
    assert receipt.keys() == {"accepted", "rejected", "cursor"}
    assert (receipt["accepted"], receipt["rejected"]) == (2, 0)
    assert len(Cursor.from_text(receipt["cursor"]).seqs) == 1


async def test_every_pointer_of_a_bad_batch_leads_to_the_invalid_value(
    shared_client: AsyncClient,
) -> None:
    sent = batch(series("good"), *wrong_series("bad"))

    answer = await shared_client.post(
        "/v1/samples", content=json.dumps(sent), headers={"content-type": "application/json"}
    )

    problem = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == "batch_rejected"
    assert problem["status"] == 422
    assert (problem["accepted"], problem["rejected"]) == (0, len(WRONG) - 1), (
        "one series had no samples"
    )
    assert problem["errors_left_out"] == 0
    found = {one["pointer"]: one["code"] for one in problem["errors"]}
    assert found == {
        f"/series/{place}{pointer}": code for place, (code, _, pointer, _) in enumerate(WRONG, 1)
    }
    for place, (_, _, pointer, value) in enumerate(WRONG, 1):
        assert resolve(sent, f"/series/{place}{pointer}") == value
    assert all(one["detail"] for one in problem["errors"])


async def test_lines_are_named_from_one_and_pointers_lead_into_them(
    shared_client: AsyncClient,
) -> None:
    sent = [series("good"), *wrong_series("bad")]

    answer = await push_lines(shared_client, *sent, "", "not json")

    problem = answer.json()
    assert answer.status_code == 422
    found = {one["line"]: (one["pointer"], one["code"]) for one in problem["errors"]}
    assert found == {
        **{line: (pointer, code) for line, (code, _, pointer, _) in enumerate(WRONG, 2)},
        len(sent) + 2: ("", "malformed_json"),
    }
    for line, (_, _, pointer, value) in enumerate(WRONG, 2):
        assert resolve(sent[line - 1], pointer) == value


async def test_no_part_of_a_bad_batch_is_stored(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    for send in (push, push_lines):
        answer = await send(shared_client, series("all_or_nothing"), series("all_or_nothing", [1]))
        assert answer.status_code == 422
    assert await find_values(shared_database, "all_or_nothing") == {}


async def test_with_partial_the_good_part_of_a_bad_batch_is_stored(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    now = now_ms()
    mixed = series("partly", [now, 1], [now + 1, "x"], [5, 5], [now + 2, 3])

    for send, pointer in ((push, "/series/0"), (push_lines, "")):
        answer = await send(shared_client, mixed, series("9", [1, 1], [now, 1]), partial="true")

        receipt = answer.json()
        assert answer.status_code == 207
        assert answer.headers["content-type"] == "application/json"
        assert (receipt["accepted"], receipt["rejected"]) == (2, 4)
        assert receipt["cursor"]
        found = {(one["pointer"], one["code"]) for one in receipt["errors"]}
        assert (f"{pointer}/samples/1/1", "wrong_type") in found
        assert {code for _, code in found} == {"wrong_type", "too_old", "invalid_metric"}
        values = await find_values(shared_database, "partly")
        assert values == {now * 1_000: 1.0, (now + 2) * 1_000: 3.0}


async def test_partial_of_nothing_good_stores_nothing(shared_client: AsyncClient) -> None:
    answer = await push(shared_client, series("nothing", [1, 1], [2, 2]), partial="true")

    receipt = answer.json()
    assert answer.status_code == 207
    assert (receipt["accepted"], receipt["rejected"], receipt["cursor"]) == (0, 2, None)


async def test_partial_changes_nothing_for_a_good_batch(shared_client: AsyncClient) -> None:
    answer = await push(shared_client, series("ok"), partial="true")

    assert answer.status_code == 200
    assert answer.json().keys() == {"accepted", "rejected", "cursor"}


async def test_a_dry_run_says_what_would_happen_and_stores_nothing(
    shared_client: AsyncClient, shared_database: Database
) -> None:
    good, bad = series("dry", unit="s"), series("dry", [1, 1])

    fine = await push(shared_client, good, dry_run="true")
    mixed = await push(shared_client, good, bad, dry_run="true", partial="true")
    refused = await push(shared_client, good, bad, dry_run="true")

    assert fine.status_code == 200
    assert fine.json() == {"accepted": 1, "rejected": 0, "cursor": None, "dry_run": True}
    assert mixed.status_code == 207
    assert mixed.json()["accepted"] == 1
    assert mixed.json()["dry_run"] is True
    assert refused.status_code == 422
    assert await find_values(shared_database, "dry") == {}
    assert (await shared_client.get("/v1/series?match=dry")).json()["series"] == []
    assert "dry" not in (await shared_client.get("/v1/metadata")).text


async def test_the_first_hundred_errors_are_shown_and_the_rest_counted(
    shared_client: AsyncClient,
) -> None:
    answer = await push(shared_client, series("many", *[[1, 1]] * 250))

    problem = answer.json()
    assert [one["pointer"] for one in problem["errors"]] == [
        f"/series/0/samples/{place}/0" for place in range(100)
    ]
    assert (problem["errors_left_out"], problem["rejected"]) == (150, 250)
    assert len(answer.content) < 30_000


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("", 400, "malformed_body"),
        ("{", 400, "malformed_body"),
        ("[]", 422, "batch_rejected"),
        ("{}", 422, "batch_rejected"),
        ('{"series": []}', 422, "batch_rejected"),
        (json.dumps(batch(*[series("m")] * 10_001)), 413, "batch_too_large"),
        (
            json.dumps(batch(series("m", *[[1, 1]] * (MAX_BATCH_SAMPLES + 1)))),
            413,
            "batch_too_large",
        ),
        (" " * (16 * 1024 * 1024 + 1), 413, "body_too_large"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_body_that_is_no_batch_is_refused_as_a_whole(
    shared_client: AsyncClient, content: str, status: int, code: str
) -> None:
    answer = await shared_client.post(
        "/v1/samples", content=content, headers={"content-type": "application/json"}
    )

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:infrawatch:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": ""},
        {"content-type": "application/xml; charset=utf-8"},
        {"content-type": "application/json, application/json"},
        {"content-type": "application/json", "content-encoding": "compress"},
        {"content-type": "application/json", "content-encoding": "gzip, br"},
    ],
)
async def test_an_unsupported_content_type_is_refused_with_the_supported_ones(
    shared_client: AsyncClient, headers: dict[str, str]
) -> None:
    answer = await shared_client.post("/v1/samples", content="{}", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content")
    assert "use " in answer.json()["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "APPLICATION/JSON ; charset=utf-8", "application/x-ndjson"]
)
async def test_content_types_are_read_as_http_has_them(
    shared_client: AsyncClient, content_type: str
) -> None:
    one = series("typed")
    sent = one if "ndjson" in content_type else batch(one)

    answer = await shared_client.post(
        "/v1/samples", content=json.dumps(sent), headers={"content-type": content_type}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("precision", "m"), ("precision", ""), ("partial", "maybe"), ("dry_run", "2")],
)
async def test_a_parameter_that_does_not_fit_is_named_and_not_repeated(
    shared_client: AsyncClient, parameter: str, value: str
) -> None:
    answer = await push(shared_client, series("m"), **{parameter: value})

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_input")
    assert [one["parameter"] for one in problem["errors"]] == [parameter]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/samples/", 404, "not_found"),
        ("POST", "/v1/samples/", 404, "not_found"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/api/nothing", 404, "not_found"),
        ("PUT", "/v1/samples", 405, "method_not_allowed"),
        ("POST", "/v1/series", 405, "method_not_allowed"),
    ],
)
async def test_paths_and_methods_that_are_none_are_problems_too(
    shared_client: AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await shared_client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/livez", 200), ("/v1/labels", 200), ("/v1/series", 422), ("/", 200), ("/v1/nothing", 404)],
)
async def test_head_answers_like_get_without_the_body(
    shared_client: AsyncClient, path: str, status: int
) -> None:
    without = await shared_client.head(path)
    answer = await shared_client.get(path)

    assert without.status_code == answer.status_code == status
    assert without.headers["content-type"] == answer.headers["content-type"]
    assert without.content == b""
    assert (await shared_client.put("/v1/samples")).headers["allow"] == "GET, HEAD, POST"


async def test_head_of_a_stream_ends_with_its_headers(
    shared_client: AsyncClient, shared_server: str
) -> None:
    answer = await shared_client.head("/v1/live/sse", params={"match": "up"})

    async def nobody_follows() -> bool:
        return await metric(shared_server, "infrawatch_live_subscriptions") == 0

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    await until(nobody_follows)


async def test_errors_are_listed_in_the_order_of_the_batch(shared_client: AsyncClient) -> None:
    answer = await push(shared_client, series("m", [1, 1]), series("1m"), series("m", [2, 2]))

    places = [one["pointer"].split("/")[2] for one in answer.json()["errors"]]
    assert places == ["0", "1", "2"]
