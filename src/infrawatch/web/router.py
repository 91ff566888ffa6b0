"""GET /docs and /redoc, with scripts and styles of our own: nothing comes from elsewhere."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

ASSETS = Path(__file__).parent / "dist"
"""Made by `make setup` from the packages pinned in dashboard/package-lock.json."""

router = APIRouter(include_in_schema=False)

# Both pages configure themselves with a script in the page; Redoc works in a worker made of a blob.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; worker-src blob:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
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


def install(app: FastAPI) -> None:
    """Serve the pages, and what they are made of below /static."""
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=ASSETS, check_dir=False), name="static")


def _guarded(page: HTMLResponse) -> HTMLResponse:
    """Let the browser load nothing from elsewhere, whatever the page asks for."""
    page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return page
