"""`/docs`: the API to read and try, with assets from a package, so that it works without internet."""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from mongars.api.strict import StrictRoute
from mongars.errors import Missing

PREFIX = ""
router = APIRouter(include_in_schema=False, route_class=StrictRoute)

SERVED = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon.png"})
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>monGARS API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="docs/swagger-ui.css"><link rel="icon" href="docs/favicon.png">
</head><body><main id="swagger-ui"></main>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>
</body></html>"""

START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true,
  persistAuthorization: false, layout: "BaseLayout"});"""


def _assets() -> Path:
    """Where the package that carries Swagger UI 5 keeps it; the package itself is not imported."""
    found = find_spec("fastapi_offline")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "static"


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The page."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """Its assets."""
    if name == "start.js":
        return Response(START, media_type="text/javascript")
    if name not in SERVED:
        raise Missing("There is nothing at this address.", slug="no-such-address")
    return FileResponse(_assets() / name, headers={"cache-control": "public, max-age=86400"})
