"""Request and response models of the Prometheus endpoints."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from infrawatch.query.promql.parsing import MAX_QUERY_CHARACTERS

_TIME = "RFC 3339, unix seconds, or back from now like `-15m`."

Query = Annotated[
    str,
    Field(
        description="PromQL.",
        max_length=MAX_QUERY_CHARACTERS,
        examples=["sum by (instance) (rate(node_cpu_seconds_total[5m]))"],
    ),
]
Time = Annotated[str, Field(description=_TIME, max_length=100)]
# Prometheus' own API takes an empty parameter for one that is left out.
_MaybeEmpty = BeforeValidator(lambda value: None if value == "" else value)
_Short = Annotated[str, Field(max_length=100)]
MaybeTime = Annotated[_Short | None, _MaybeEmpty, Field(description=_TIME)]
Selectors = Annotated[
    list[str],
    Field(
        alias="match[]",
        description="Selectors; a series matched by any of them is included.",
        max_length=100,
        examples=[["up"]],
    ),
]
Limit = Annotated[
    int,
    # Prometheus' own client sends an empty `limit=` when no limit is set.
    BeforeValidator(lambda value: 0 if value == "" else value),
    Field(ge=0, lt=2**31, description="Maximum number of results; 0 for no limit of your own."),
]


Lookback = Annotated[
    _Short | None,
    _MaybeEmpty,
    Field(description="How old a sample may be that stands for its series; without, `5m`."),
]

Timeout = Annotated[
    _Short | None,
    _MaybeEmpty,
    Field(
        description="How long the query may take; INFRAWATCH_READ_DEADLINE at most.",
        examples=["10s"],
    ),
]


class InstantParameters(BaseModel):
    """A query at one moment, by default now."""

    query: Query
    time: MaybeTime = None
    lookback_delta: Lookback = None
    timeout: Timeout = None
    limit: Limit = 0


class RangeParameters(BaseModel):
    """A query at `start` and every `step` after it, up to and including `end`."""

    query: Query
    start: Annotated[Time, Field(examples=["-15m"])]
    end: Annotated[Time, Field(examples=["now"])]
    step: Annotated[
        str, Field(description="A duration, or seconds.", max_length=100, examples=["30s"])
    ]
    lookback_delta: Lookback = None
    timeout: Timeout = None
    limit: Limit = 0


class SeriesParameters(BaseModel):
    """Series with samples in a span."""

    match: Annotated[Selectors, Field(min_length=1)]
    start: MaybeTime = None
    end: MaybeTime = None
    limit: Limit = 0


class NamesParameters(BaseModel):
    """Label names or values, of some series or of all; `start` and `end` do not filter them."""

    match: Selectors = []
    start: MaybeTime = None
    end: MaybeTime = None
    limit: Limit = 0


class ExemplarsParameters(BaseModel):
    """Exemplars of the series in a query."""

    query: Query
    start: MaybeTime = None
    end: MaybeTime = None


class FormatParameters(BaseModel):
    """A query to format without evaluating it."""

    query: Query


class _BuiltWhenUsed(BaseModel):
    """Base of response models: each is built by the first request that needs it."""

    model_config = ConfigDict(defer_build=True)


class QueryData(_BuiltWhenUsed):
    resultType: Literal["matrix", "vector", "scalar", "string"]  # noqa: N815
    result: list[Any]


class QueryAnswer(_BuiltWhenUsed):
    """The value of a query: `[seconds, "value"]`, or series that have one or more of these."""

    status: Literal["success"]
    data: QueryData
    warnings: list[str] = []


class TextAnswer(_BuiltWhenUsed):
    status: Literal["success"] = "success"
    data: str


class EmptyAnswer(_BuiltWhenUsed):
    """An empty list of something that InfraWatch does not keep."""

    status: Literal["success"] = "success"
    data: list[Any] | dict[str, list[Any]]


class NamesAnswer(_BuiltWhenUsed):
    status: Literal["success"]
    data: list[str]
    warnings: list[str] = []


class SeriesAnswer(_BuiltWhenUsed):
    status: Literal["success"]
    data: list[dict[str, str]]
    warnings: list[str] = []


class MetricDescription(_BuiltWhenUsed):
    type: str
    help: str
    unit: str


class MetadataAnswer(_BuiltWhenUsed):
    status: Literal["success"] = "success"
    data: dict[str, list[MetricDescription]]


class BuildAnswer(_BuiltWhenUsed):
    status: Literal["success"] = "success"
    data: dict[str, str]


class QueryRefusal(_BuiltWhenUsed):
    """The reason for an error, and what to do about it."""

    status: Literal["error"] = "error"
    errorType: str  # noqa: N815
    error: str
