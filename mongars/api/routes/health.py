"""Whether this process lives, whether it can serve, and its metrics."""

import ipaddress
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import PlainTextResponse

from mongars.api.dependencies import BodyDep
from mongars.api.security import prove
from mongars.api.strict import StrictRoute
from mongars.body import Body
from mongars.database import SYSTEM, migrate
from mongars.errors import Fault, Forbidden

PREFIX = ""
router = APIRouter(tags=["operations"], route_class=StrictRoute)

FORWARDED = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"})
"""What tells that a proxy on this machine asks for somebody else."""

State = Literal["ok", "loading", "degraded", "away"]


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"content": {"application/json": {}}}})
async def ready(body: BodyDep) -> Response:
    """Each part, and whether chats can be served: 503 while one that is needed is missing."""
    parts = {
        "database": await _database(body),
        "redis": _redis(body),
        "model": _model(body),
    }
    missing = parts["database"]["state"] != "ok" or parts["model"]["state"] == "loading"
    worst = "unavailable" if missing else "ready"
    if not missing and any(part["state"] != "ok" for part in parts.values()):
        worst = "degraded"
    return Response(
        orjson.dumps({"status": worst, "parts": parts}),
        503 if missing else 200,
        {"content-type": "application/json"},
    )


async def _database(body: Body) -> dict[str, Any]:
    try:
        async with body.database.reading(SYSTEM):
            at = await migrate.current(body.database)
    except Fault as fault:
        return {"state": "away", "detail": fault.detail}
    if at != migrate.newest():
        return {"state": "away", "detail": "The schema is not today's; run `mongars migrate`."}
    return {"state": "ok", "kind": body.database.dialect, "revision": at}


def _redis(body: Body) -> dict[str, Any]:
    if not body.bus.shared:
        return {"state": "ok", "detail": "not configured: one process"}
    if body.bus.connected:
        return {"state": "ok"}
    return {"state": "degraded", "detail": "Redis is away; other processes are heard more slowly."}


def _model(body: Body) -> dict[str, Any]:
    status = body.llm.status()
    state: State = "ok" if status.state == "ready" else status.state
    return {
        "state": state,
        "backend": status.backend,
        "model": status.model,
        "why": status.why,
        "detail": status.detail,
    }


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(
    request: Request, body: BodyDep, authorization: Annotated[str | None, Header()] = None
) -> Response:
    """Metrics in Prometheus' text format; off loopback with scope `metrics`."""
    if not _from_loopback(request):
        caller = await prove(body, authorization)
        if "metrics" not in caller.scopes:
            raise Forbidden("Metrics need the scope `metrics`.")
    return Response(body.telemetry.exposition(), media_type="text/plain; version=0.0.4")


def _from_loopback(request: Request) -> bool:
    """Whether the request comes from this machine itself, not through a proxy."""
    if request.client is None or not FORWARDED.isdisjoint(request.headers):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
