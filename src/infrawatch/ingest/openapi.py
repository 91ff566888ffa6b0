"""The parts of the OpenAPI document that FastAPI does not generate: batches and examples."""

import json
from typing import Any

from infrawatch.ingest.protocols.native.schemas import BATCH, BatchProblem


def openapi_components(now_ms: int) -> dict[str, dict[str, Any]]:
    """Build the OpenAPI components that FastAPI does not generate, from the same models.

    The examples carry current times, so that they are accepted when pasted.
    """
    reference = "#/components/schemas/{model}"
    batch = BATCH.json_schema(ref_template=reference)
    problem = BatchProblem.model_json_schema(ref_template=reference)
    shared = batch.pop("$defs") | problem.pop("$defs")
    load = {"metric": "node_load1", "labels": {"host": "web-1"}, "type": "gauge", "unit": "1"}
    series = {**load, "samples": [[now_ms - 10_000, 0.42], [now_ms, 0.44]]}
    return {
        "schemas": {**shared, "BatchIn": batch, "BatchProblem": problem},
        "examples": {
            "Batch": {"summary": "Two samples", "value": {"series": [series]}},
            "Lines": {"summary": "One series a line", "value": f"{json.dumps(series)}\n"},
            **_examples_of_protocols(now_ms),
        },
    }


def _examples_of_protocols(now_ms: int) -> dict[str, Any]:
    point = {"timeUnixNano": f"{now_ms}000000", "asInt": "7"}
    metric = {"name": "queue.length", "gauge": {"dataPoints": [point]}}
    service = {"key": "service.name", "value": {"stringValue": "checkout"}}
    request = {"resource": {"attributes": [service]}, "scopeMetrics": [{"metrics": [metric]}]}
    record = {
        "values": [197141504, 175136768],
        "dstypes": ["derive", "derive"],
        "dsnames": ["read", "write"],
        "time": now_ms / 1000,
        "interval": 10,
        "host": "web-1",
        "plugin": "disk",
        "plugin_instance": "sda",
        "type": "disk_octets",
        "type_instance": "",
    }
    exported = {
        "metric": {"__name__": "up", "job": "node"},
        "values": [1, 0],
        "timestamps": [now_ms - 15_000, now_ms],
    }
    return {
        "Otlp": {"summary": "A gauge", "value": {"resourceMetrics": [request]}},
        "Records": {"summary": "A disk, both ways", "value": [record]},
        "Exported": {"summary": "One series", "value": f"{json.dumps(exported)}\n"},
    }
