"""GET /, /docs and /redoc, with scripts and styles served from here, never from third parties."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

BUILT = Path(__file__).parent / "dist"
"""Made by `make setup` from dashboard/ and the packages its package-lock.json pins."""

DASHBOARD = BUILT / "page"

router = APIRouter(include_in_schema=False)

# Nothing inline, nothing from other origins; 'self' also covers a same-origin WebSocket.
DASHBOARD_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)

# Both pages configure themselves with an inline script; Redoc runs a worker from a blob.
API_PAGES_POLICY = (
    "default-src 'self'; img-src 'self' data:; worker-src blob:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)

NOT_BUILT = (
    "The dashboard has not been built here: run `make setup` in the checkout (it needs the network "
    "once), then load this page again.\n"
)

IMMUTABLE = "public, max-age=31536000, immutable"


@router.get("/")
async def dashboard() -> Response:
    """Return the page; it must be revalidated, as its scripts are cached by content hash."""
    page = DASHBOARD / "index.html"
    if not page.exists():
        return PlainTextResponse(NOT_BUILT, status_code=404)
    return FileResponse(
        page,
        headers={
            "Cache-Control": "no-cache",
            "Content-Security-Policy": DASHBOARD_POLICY,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="InfraWatch API",
        swagger_js_url="/static/docs/swagger-ui-bundle.js",
        swagger_css_url="/static/docs/swagger-ui.css",
        swagger_favicon_url="/static/docs/favicon-32x32.png",
    )
    return _guarded(page)


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    page = get_redoc_html(
        openapi_url="/openapi.json",
        title="InfraWatch API",
        redoc_js_url="/static/docs/redoc.standalone.js",
        redoc_favicon_url="/static/docs/favicon-32x32.png",
        with_google_fonts=False,
    )
    return _guarded(page)


class _Hashed(StaticFiles):
    """Files whose names contain a content hash, so that they can be cached indefinitely."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = IMMUTABLE
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def install(app: FastAPI) -> None:
    """Serve the pages, and their assets below /assets and /static/docs."""
    app.include_router(router)
    assets = _Hashed(directory=DASHBOARD / "assets", check_dir=False)
    app.mount("/assets", assets, name="assets")
    scripts = StaticFiles(directory=BUILT / "docs", check_dir=False)
    app.mount("/static/docs", scripts, name="scripts")


def _guarded(page: HTMLResponse) -> HTMLResponse:
    """Forbid the browser to load anything from other origins for this page."""
    page.headers["Content-Security-Policy"] = API_PAGES_POLICY
    return page
