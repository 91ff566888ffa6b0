"""POST /v1/samples: the native formats, JSON and NDJSON, and their responses."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request
from fastapi.responses import Response

from infrawatch.access.needs import MayWrite
from infrawatch.access.parameters import OwnRouter
from infrawatch.access.principal import Principal
from infrawatch.errors import InvalidInput, UnsupportedContent
from infrawatch.ingest.bodies import media_type_of, read_body
from infrawatch.ingest.decoded import Decoded
from infrawatch.ingest.intake import Intake, Outcome, WriteOptions
from infrawatch.ingest.native.decode import decode_json, decode_ndjson
from infrawatch.ingest.routing import IngestRoute, intake_of
from infrawatch.ingest.scheduling.loop_budget import Read
from infrawatch.ingest.schemas import BatchProblem, PartialReceipt, Receipt, Refusal
from infrawatch.ingest.verdicts import Verdicts, counted
from infrawatch.model.cursor import Cursor
from infrawatch.model.timerange import Precision
from infrawatch.problems import ParameterProblem, problem_response, to_response

router = OwnRouter(prefix="/v1", route_class=IngestRoute, tags=["ingest"])

FORMAT = "native"


_HAS_LINES = {
    "application/json": False,
    "application/x-ndjson": True,
    "application/ndjson": True,
    "application/jsonl": True,
}
"""Media types, and whether each line of a body is a series."""

_FORM = "application/x-www-form-urlencoded"
"""What curl says of any body, unless told otherwise."""


class BatchRejected(InvalidInput):
    code = "batch_rejected"


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Receipt, "description": "Every sample is stored, on disk."},
    207: {"model": PartialReceipt, "description": "With `partial`: the valid part is stored."},
    400: problem_response("The body cannot be read."),
    413: problem_response("The body or the batch is too large; send it in parts."),
    415: problem_response("The content type or encoding is not supported."),
    422: problem_response("Nothing was stored; `errors` says why.", BatchProblem, ParameterProblem),
    503: problem_response("Try again after `Retry-After` seconds; it is always safe."),
}

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/BatchIn"},
                "examples": {"batch": {"$ref": "#/components/examples/Batch"}},
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One `SeriesIn` object a line."},
                "examples": {"lines": {"$ref": "#/components/examples/Lines"}},
            },
        },
    }
}


@router.post("/samples", responses=_RESPONSES, response_model=None, openapi_extra=_BODY)
async def write_samples(  # `request` and `principal` come from the framework
    request: Request,
    principal: MayWrite,
    precision: Annotated[Precision, Query(description="Unit of the times.")] = "ms",
    partial: Annotated[bool, Query(description="Store the valid part of a bad batch.")] = False,  # noqa: FBT002
    dry_run: Annotated[bool, Query(description="Only validate; store nothing.")] = False,  # noqa: FBT002
) -> Response:
    """Store a batch of samples.

    The response is sent after the commit. Retrying a batch is always safe: a sample is identified
    by its series and time, writing the same value again changes nothing, and if the values differ,
    the one that arrives last wins.
    """
    media_type = media_type_of(request)
    has_lines = _HAS_LINES.get(media_type)
    if has_lines is None:
        hint = "; with curl: -H 'Content-Type: application/json'" if media_type == _FORM else ""
        raise UnsupportedContent(
            f"Content-Type {media_type[:50]!r} is not read here: use application/json or "
            f"application/x-ndjson{hint}"
        )
    body = await read_body(request, max_bytes=request.state.max_body_bytes)
    intake, options = intake_of(request), WriteOptions(partial=partial, dry_run=dry_run)
    read = _decoder(intake, principal, precision, has_lines=has_lines)
    decoded = await intake.offload.read(principal.tenant_id, read, body)
    outcome = await intake.take(decoded, principal, FORMAT, options)
    return _to_response(outcome, options, request.state.epoch, has_lines=has_lines)


def _decoder(
    intake: Intake, principal: Principal, precision: Precision, *, has_lines: bool
) -> Read[Decoded]:
    if has_lines:
        return partial(decode_ndjson, precision=precision)
    find, layouts = intake.finder(principal, FORMAT), intake.layouts(principal, FORMAT)
    return partial(decode_json, precision=precision, find=find, layouts=layouts)


def _to_response(
    outcome: Outcome, options: WriteOptions, epoch: UUID, *, has_lines: bool
) -> Response:
    verdicts, commit = outcome.verdicts, outcome.commit
    counts = {"accepted": outcome.accepted, "rejected": verdicts.rejected_samples}
    if verdicts:
        refusals = {
            "errors": _to_refusals(verdicts, has_lines=has_lines),
            "errors_left_out": verdicts.total - len(verdicts.shown),
        }
        if not options.partial:
            error = BatchRejected(
                f"{counted(verdicts.total, 'error')}, nothing was stored; "
                "?partial=true stores the good part"
            )
            return to_response(error, {**counts, **refusals})
    else:
        refusals = {}
    receipt = {
        **counts,
        "cursor": commit and Cursor(epoch, commit.at_us, {commit.writer: commit.seq}).to_text(),
        **({"dry_run": True} if options.dry_run else {}),
        **refusals,
    }
    model = PartialReceipt if verdicts else Receipt
    return Response(
        model.model_validate(receipt).model_dump_json(exclude_unset=True),
        status_code=207 if verdicts else 200,
        media_type="application/json",
    )


def _to_refusals(verdicts: Verdicts, *, has_lines: bool) -> list[dict[str, object]]:
    return [
        Refusal(
            pointer=one.locator,
            line=one.index if has_lines else None,
            code=one.code,
            detail=one.detail,
        ).model_dump(exclude_none=True)
        for one in verdicts
    ]
