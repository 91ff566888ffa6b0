"""/v1/session: signing in and out, and the current session."""

from typing import Any

from fastapi import Request, Response

from infrawatch.access.access import Access
from infrawatch.access.login.cookies import drop_cookie, is_from_own_page, keep_cookie
from infrawatch.access.login.passwords import ADMINISTRATOR
from infrawatch.access.login.sessions import StartedSession, Way
from infrawatch.access.needs import TheAccess
from infrawatch.access.parameters import OwnRouter
from infrawatch.access.principal import Principal
from infrawatch.access.requests.refusals import origin_of
from infrawatch.access.requests.small_bodies import SmallBodyRoute
from infrawatch.access.routes import schemas
from infrawatch.errors import Forbidden, InvalidInput, Unauthenticated
from infrawatch.problems import ParameterProblem, Problem, problem_response
from infrawatch.store.accounts.tenants import TenantRepository

_UNKNOWN = problem_response("A key, token or password that is wrong.")
_FOREIGN = problem_response(
    "A page from elsewhere may have sent this: bring a matching `Origin`, or `X-Requested-With`."
)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: _UNKNOWN,
    429: problem_response(
        "Too many wrong ones came from this address, or too many requests of the key: wait for "
        "`Retry-After` seconds."
    ),
    503: problem_response("Try again after `Retry-After` seconds."),
}

router = OwnRouter(prefix="/v1", tags=["access"], responses=_RESPONSES, route_class=SmallBodyRoute)


@router.get("/session")
async def get_session(request: Request, access: TheAccess) -> schemas.SessionOut:
    """Get the caller, identified by cookie, key or token, and the ways to sign in."""
    if not access.is_required:
        return await _describe(access, None)
    return await _describe(access, await access.gate.find(request))


@router.post(
    "/session",
    status_code=201,
    responses={
        403: _FOREIGN,
        422: problem_response("A field does not fit.", Problem, ParameterProblem),
    },
)
async def sign_in(
    request: Request, response: Response, session_in: schemas.SessionIn, access: TheAccess
) -> schemas.SessionOut:
    """Begin a session with the password, or with the key or token in the request's headers.

    The response sets the cookie that authenticates the browser from then on. A session has the
    scopes of the credential it was begun with, and ends with it. A session that the browser had
    before is ended.
    """
    if not access.is_required:
        raise Forbidden("authentication is off: nobody needs to sign in")
    if not is_from_own_page(request):
        raise Forbidden("a page from elsewhere may not sign you in; programs send X-Requested-With")
    started = await _begin(request, session_in, access)
    keep_cookie(response, request, started.cookie, access.sessions.life)
    return await _describe(access, started.principal)


@router.delete("/session", status_code=204, responses={403: _FOREIGN})
async def sign_out(request: Request, response: Response, access: TheAccess) -> None:
    """End the session and its live views, on every server within two seconds."""
    if not is_from_own_page(request):
        raise Forbidden(
            "a page from elsewhere may not sign you out; programs send X-Requested-With"
        )
    principal = await access.sessions.find(request)
    if principal is not None:
        await access.sessions.end(principal)
    drop_cookie(response, request)


async def _begin(request: Request, session_in: schemas.SessionIn, access: Access) -> StartedSession:
    if session_in.password is None:
        principal = await access.gate.identify(request)
        if principal.session_id is not None:
            raise InvalidInput("you are signed in; to be somebody else, bring a key or a password")
        way: Way = "oidc" if principal.key_id is None else "key"
        return await access.sessions.begin(request, principal, way)
    try:
        hashed = await access.password.check(session_in.password, origin_of(request))
        return await access.sessions.begin(request, ADMINISTRATOR, "password", hashed)
    except Unauthenticated as error:
        access.refusals.note(request, error.reason)
        raise


async def _describe(access: Access, principal: Principal | None) -> schemas.SessionOut:
    user = None
    if principal is not None:
        async with access.database.reading() as connection:
            tenant = await TenantRepository(connection).get_name(principal.tenant_id)
        user = schemas.UserOut(
            name=principal.name,
            tenant=tenant,
            scopes=sorted(principal.scopes),
            is_signed_in=principal.session_id is not None,
            until=principal.good_until,
        )
    oidc = None if access.issuer is None else access.issuer.options.name
    return schemas.SessionOut(
        authentication="required" if access.is_required else "off",
        user=user,
        ways=schemas.WaysOut(password=await access.password.is_set(), oidc=oidc),
    )
