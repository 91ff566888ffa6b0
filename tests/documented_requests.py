"""Every request that the OpenAPI document allows, with values of a given tenant."""

from collections.abc import Container, Iterator
from itertools import product
from typing import Any, NamedTuple

from keys import OWN_PAGE
from protobuf_wire import labels, sample, snappy, write_request

from infrawatch.model.timerange import now_us

T_MS = now_us() // 1000 - 600_000
"""The time of all samples, so that no response depends on the time of its request."""

SECRET = "classified"

EVERYTHING = '{__name__=~".+"}'

PARAMETERS: dict[str, list[str | None]] = {
    "match": [EVERYTHING, "shared", f'{{who="{SECRET}"}}', f"{SECRET}_total", "{{{"],
    "match[]": [EVERYTHING, f"{SECRET}_total"],
    "query": ["shared", f"count({EVERYTHING}) by (who)", f"{SECRET}_total", "sum("],
    "time": [str(T_MS // 1000 + 60)],
    "start": [str(T_MS // 1000 - 60)],
    "end": [str(T_MS // 1000 + 60)],
    "step": ["30s"],
    "fn": ["count"],
    "by": [None, "who"],
    "across": [None, "count"],
    "name": ["__name__", "who", SECRET],
    "metric": [None, "shared", f"{SECRET}_total"],
    "max_age": ["all"],
    "lookback_delta": ["10m"],
    "what": ["runtimeinfo"],
    "limit": ["1000"],
    "key_id": [SECRET, "abcdef"],
    "tenant": [None, SECRET],
    "grouping": ["job/a"],
    "q": ["SHOW DATABASES"],
    "since": ["-1h"],
}
"""The values to try of each parameter; None omits it."""

LEFT_OUT = {
    *("code", "state", "iss"),
    *("cursor", "precision", "wait_for", "last-event-id", "before", "timeout"),
    *("partial", "dry_run", "accept_partial", "extra_label"),
    *("db", "rp", "consistency", "org", "orgID", "bucket", "no_sync"),
}
"""Parameters that do not select data, and are omitted."""

NATIVE = """{"series":[
{"metric":"shared","labels":{"host":"a"},"samples":[[TIME,VALUE]],"help":"MARK"},
{"metric":"shared","labels":{"host":"a","who":"MARK"},"samples":[[TIME,1]]},
{"metric":"MARK_total","labels":{"MARK":"MARK"},"samples":[[TIME,1]],"help":"MARK"}]}"""
OTLP = """{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"MARK_otlp","gauge":{
"dataPoints":[{"timeUnixNano":"TIME000000","asDouble":VALUE}]}}]}]}]}"""
LINES = "shared,host=b v=VALUE TIME000000\nMARK,host=b,who=MARK v=1 TIME000000\n"
TEXT = '# HELP MARK_text MARK\nshared{host="c"} VALUE TIME\nMARK_text{who="MARK"} 1 TIME\n'
IMPORT = '{"metric":{"__name__":"MARK_i"},"values":[VALUE],"timestamps":[TIME]}\n'
COLLECTD = """[{"values":[VALUE],"dstypes":["gauge"],"dsnames":["value"],"time":1,"interval":10,
"host":"MARK","plugin":"load","type":"load"}]""".replace('"time":1', f'"time":{T_MS / 1000}')

FORM = "application/x-www-form-urlencoded"
SPAN = f"start={T_MS // 1000 - 60}&end={T_MS // 1000 + 60}"

TEXTS = {
    "/api/v1/query": (FORM, f"query=shared&time={T_MS // 1000 + 60}"),
    "/api/v1/query_range": (FORM, f"query=sum by (who) (shared)&step=30&{SPAN}"),
    "/api/v1/query_exemplars": (FORM, f"query=shared&{SPAN}"),
    "/api/v1/format_query": (FORM, "query=shared"),
    "/api/v1/series": (FORM, f"match[]={EVERYTHING}&{SPAN}"),
    "/api/v1/labels": (FORM, f"match[]=shared&{SPAN}"),
    "/v1/samples": ("application/json", NATIVE),
    "/v1/metrics": ("application/json", OTLP),
    "/write": ("text/plain", LINES),
    "/api/v2/write": ("text/plain", LINES),
    "/api/v3/write_lp": ("text/plain", LINES),
    "/query": (FORM, "q=SHOW DATABASES"),
    "/v1/exposition": ("text/plain", TEXT),
    "/v1/exposition/metrics/{grouping}": ("text/plain", TEXT),
    "/api/v1/import": ("application/x-ndjson", IMPORT),
    "/v1/collectd": ("application/json", COLLECTD),
    "/v1/limits": ("application/json", '{"key_id":"abcdef","requests_per_s":VALUE}'),
    "/v1/session": ("application/json", '{"password":"guessed by MARK"}'),
    "/v1/keys": ("application/json", f'{{"name":"a","scopes":["read"],"tenant":"{SECRET}"}}'),
}


class Question(NamedTuple):
    """One request; `template` is the path as the document has it."""

    method: str
    template: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    accept: str
    has_body: bool

    def to_request(self, mark: str, value: int) -> dict[str, Any]:
        """Return the arguments of a client's request, for a tenant with this mark and value."""
        headers, content = {"Accept": self.accept} | OWN_PAGE, b""
        if self.has_body:
            headers["Content-Type"], content = _body(self.template, mark, value)
        return {
            "method": self.method,
            "url": self.path,
            "params": dict(self.parameters),
            "headers": headers,
            "content": content,
        }


def questions(document: dict[str, Any]) -> Iterator[Question]:
    """Yield all requests; raises KeyError if a parameter or a body has no values here."""
    for template, operations in document["paths"].items():
        for method, operation in operations.items():
            asked = operation.get("parameters", ())
            has_body = "requestBody" in operation
            for values in product(*map(_values, asked)):
                chosen = [
                    (one["in"], one["name"], value)
                    for one, value in zip(asked, values, strict=True)
                    if value is not None
                ]
                path = template
                for _, name, value in (one for one in chosen if one[0] == "path"):
                    path = path.replace(f"{{{name}}}", value)
                query = tuple((name, value) for place, name, value in chosen if place == "query")
                for accept in _accepted(operation):
                    yield Question(method.upper(), template, path, query, accept, has_body)


def _values(parameter: dict[str, Any]) -> list[str | None]:
    return [None] if parameter["name"] in LEFT_OUT else PARAMETERS[parameter["name"]]


def _accepted(operation: dict[str, Any]) -> list[str]:
    answered = operation["responses"].get("200", {}).get("content", {})
    return [one for one in answered if one != "application/problem+json"] or ["*/*"]


def _body(template: str, mark: str, value: int) -> tuple[str, bytes]:
    if template == "/api/v1/write":
        return _remote_write(mark, value)
    content_type, text = TEXTS[template]
    told = text.replace("MARK", mark).replace("VALUE", str(value)).replace("TIME", str(T_MS))
    return content_type, told.encode()


def _remote_write(mark: str, value: int) -> tuple[str, bytes]:
    return "application/x-protobuf", snappy(
        write_request(
            labels("shared", host="d") + sample(value, T_MS),
            labels(f"{mark}_rw", who=mark) + sample(1, T_MS),
        )
    )


def without(value: Any, names: Container[str]) -> Any:
    """What JSON says, but for the members of these names, wherever they are."""
    if isinstance(value, dict):
        return {k: without(v, names) for k, v in value.items() if k not in names}
    return [without(one, names) for one in value] if isinstance(value, list) else value
