"""The application: every router, inside one border, with one way to fail."""

import importlib
import pkgutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from mongars import __version__
from mongars.api import problems, routes
from mongars.api.border import Border
from mongars.api.strict import StrictRoute
from mongars.body import Body
from mongars.settings import Settings

PREFIX = "/api/v1"

OpenBody = Callable[[], AbstractAsyncContextManager[Body]]


class Described(FastAPI):
    """The application, which tells what its refusals look like too."""

    def openapi(self) -> dict[str, Any]:
        """The description of every call."""
        described = super().openapi()
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        for name, schema in problems.schemas().items():
            schemas.setdefault(name, schema)
        return described


def create_app(settings: Settings, open_body: OpenBody | None = None) -> FastAPI:
    """The API. The body is opened by its lifespan; where it is open already, set `app.state.body`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        if open_body is None:
            yield
            return
        async with open_body() as body:
            app.state.body = body
            yield

    app = Described(
        title="monGARS",
        version=__version__,
        summary="A personal AI that people run themselves.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.api.docs else None,
        root_path=settings.api.root_path,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    problems.install(app)
    for found in sorted(pkgutil.iter_modules(routes.__path__), key=lambda one: one.name):
        module = importlib.import_module(f"{routes.__name__}.{found.name}")
        router: APIRouter = module.router
        assert issubclass(router.route_class, StrictRoute), f"{found.name}: route_class=StrictRoute"
        prefix = getattr(module, "PREFIX", PREFIX)
        app.include_router(router, prefix=prefix, responses=problems.answers(router.prefix))
    app.add_middleware(
        Border,
        hosts=(settings.api.host, *settings.api.allowed_hosts),
        body_bytes=settings.limits.body_bytes,
    )
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
