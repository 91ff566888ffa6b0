"""Endpoints for data that InfraWatch does not keep: they answer like a Prometheus without any.

Source: Prometheus, "HTTP API". Grafana requests rules, alerts and exemplars on its own.
"""

from typing import Annotated

from fastapi import Form, Path, Query

from infrawatch.errors import NotFound
from infrawatch.query.promql import schemas
from infrawatch.query.promql.parsing import parse_query
from infrawatch.query.promql.routing import prometheus_router

router = prometheus_router()


@router.get("/rules")
async def list_rules() -> schemas.EmptyAnswer:
    """No recording or alerting rules: InfraWatch evaluates none."""
    return schemas.EmptyAnswer(data={"groups": []})


@router.get("/alerts")
async def list_alerts() -> schemas.EmptyAnswer:
    """No alerts: there are no rules that could fire."""
    return schemas.EmptyAnswer(data={"alerts": []})


@router.get("/alertmanagers")
async def list_alertmanagers() -> schemas.EmptyAnswer:
    """No Alertmanagers: there are no alerts to send."""
    return schemas.EmptyAnswer(data={"activeAlertmanagers": [], "droppedAlertmanagers": []})


@router.get("/targets")
async def list_targets() -> schemas.EmptyAnswer:
    """No targets: InfraWatch receives samples and scrapes nothing."""
    return schemas.EmptyAnswer(data={"activeTargets": [], "droppedTargets": []})


@router.get("/targets/metadata")
async def list_metadata_of_targets() -> schemas.EmptyAnswer:
    """No targets, so no target metadata; for metadata of metrics use `/api/v1/metadata`."""
    return schemas.EmptyAnswer(data=[])


@router.get("/query_exemplars")
async def list_exemplars(
    parameters: Annotated[schemas.ExemplarsParameters, Query()],
) -> schemas.EmptyAnswer:
    """No exemplars: they are not stored."""
    return _exemplars(parameters)


@router.post("/query_exemplars")
async def list_exemplars_by_form(
    parameters: Annotated[schemas.ExemplarsParameters, Form()],
) -> schemas.EmptyAnswer:
    """The same as GET, with the parameters as a form."""
    return _exemplars(parameters)


@router.get("/status/{what}", status_code=404)
async def get_status(
    what: Annotated[str, Path(max_length=100, examples=["runtimeinfo"])],
) -> schemas.QueryRefusal:
    """Any status other than `buildinfo`: not available here."""
    return _not_here(
        f"InfraWatch is not Prometheus and has no {what}; see /metrics for its own metrics "
        "and /api/v1/status/buildinfo for its version"
    )


@router.get("/parse_query", status_code=404)
async def get_parsed_query() -> schemas.QueryRefusal:
    """The syntax tree of a query: not available, as in Prometheus 2.45."""
    return _not_here("there is no tree of a query here; use /api/v1/format_query to check one")


def _not_here(why: str) -> schemas.QueryRefusal:
    return schemas.QueryRefusal(errorType=NotFound.code, error=why)


def _exemplars(parameters: schemas.ExemplarsParameters) -> schemas.EmptyAnswer:
    parse_query(parameters.query)
    return schemas.EmptyAnswer(data=[])
