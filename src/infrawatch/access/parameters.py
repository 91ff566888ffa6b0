"""Query parameters: undeclared names are refused, where FastAPI would ignore them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as Dependency
from starlette.requests import HTTPConnection

from infrawatch.access.needs import Needs
from infrawatch.problems import ParameterProblem, problem_response

_SHOWN_CHARACTERS = 50
_MAX_LISTED = 100
"""Finding similar names takes a while, and a URL may contain ten thousand parameters."""

_RESPONSES: dict[int | str, dict[str, Any]] = {
    422: problem_response(
        "A parameter does not fit, or there is none of that name.", ParameterProblem
    )
}


class OwnRouter(APIRouter):
    """Routes of InfraWatch's own, which refuse undeclared parameters such as `?stpe=5m`.

    Not for routes of other protocols, probes and identity providers, which send additional ones.
    """

    def __init__(
        self,
        *,
        dependencies: Sequence[Dependency] = (),
        responses: Mapping[int | str, dict[str, Any]] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        super().__init__(
            dependencies=[Depends(refuse_undeclared), *dependencies],
            responses={**_RESPONSES, **responses},
            **options,
        )


async def refuse_undeclared(connection: HTTPConnection) -> None:
    """Refuse names that the route does not declare, or that are repeated.

    Raises:
        RequestValidationError
        Unauthenticated, Forbidden, LimitExceeded: access is checked first.
    """
    if not connection.scope["query_string"]:
        return
    sent = Counter(name for name, _ in connection.query_params.multi_items())
    dependants = list(_flattened(connection.scope["route"].dependant))
    declared = {field.alias for dependant in dependants for field in dependant.query_params}
    undeclared = [name for name in sent if name not in declared]
    wrong = [_undeclared(name, declared) for name in undeclared[:_MAX_LISTED]]
    wrong += [_repeated(name) for name in declared if sent[name] > 1]
    if not wrong:
        return
    for call in dict.fromkeys(dependant.call for dependant in dependants):
        if isinstance(call, Needs):
            await call(connection)
    raise RequestValidationError(wrong)


def _flattened(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _flattened(one)


def _undeclared(name: str, declared: set[str]) -> dict[str, Any]:
    shown = name[:_SHOWN_CHARACTERS]
    if near := get_close_matches(shown, declared):
        hint = f"did you mean {' or '.join(near)}?"
    elif declared:
        hint = f"there are {', '.join(sorted(declared))}"
    else:
        hint = "this takes none"
    return _flaw("unknown_parameter", shown, f"no such parameter; {hint}")


def _repeated(name: str) -> dict[str, Any]:
    return _flaw("repeated_parameter", name, "it is there more than once: send one")


def _flaw(code: str, name: str, detail: str) -> dict[str, Any]:
    return {"type": code, "loc": ("query", name), "msg": detail}
