"""Who is asking, and whether they may: what a route says with the type of its `caller`."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from mongars.api.dependencies import BodyDep
from mongars.auth import Caller, Scope, Source
from mongars.body import Body
from mongars.errors import Forbidden, Unproven

DEVICE_COOKIE = "mongars_device"

_bearer = OAuth2PasswordBearer(
    tokenUrl="api/v1/token",
    refreshUrl="api/v1/token/refresh",
    description="An access token from `/token`, or an API key `mg_…`.",
    auto_error=False,
)
Token = Annotated[str | None, Depends(_bearer)]


async def prove(body: Body, authorization: str | None) -> Caller:
    """The caller behind an `Authorization` header. Raises `Unproven`."""
    kind, _, token = (authorization or "").partition(" ")
    return await _proved(body, token.strip() if kind.lower() == "bearer" else None)


async def _proved(body: Body, token: str | None) -> Caller:
    if not token:
        raise Unproven("Please sign in: this needs a token or an API key.")
    caller = await body.auth.prove(token)
    structlog.contextvars.bind_contextvars(person=caller.id)
    return caller


def _needs(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    async def needs(body: BodyDep, token: Token) -> Caller:
        caller = await _proved(body, token)
        if scope not in caller.scopes:
            raise _beyond(scope)
        return caller

    return needs


async def _anybody(body: BodyDep, token: Token) -> Caller:
    return await _proved(body, token)


async def _signed_in(body: BodyDep, token: Token) -> Caller:
    caller = await _proved(body, token)
    if caller.session_id is None:
        raise Forbidden(
            "An API key cannot do this; sign in with your password.", slug="session-needed"
        )
    return caller


async def _admin(body: BodyDep, token: Token) -> Caller:
    caller = await _proved(body, token)
    if caller.role != "admin":
        raise Forbidden("Only an admin may do this.", slug="admin-only")
    if "admin" not in caller.scopes:
        raise _beyond("admin")
    return caller


def _beyond(scope: Scope) -> Forbidden:
    return Forbidden(
        f"This needs the scope `{scope}`.",
        slug="scope-missing",
        extra={"error": "insufficient_scope", "scope": scope},
    )


Person = Annotated[Caller, Depends(_anybody)]
"""Any caller who proved who they are, whatever the scope."""

SignedIn = Annotated[Caller, Depends(_signed_in)]
"""A person with a session, not a key: for what changes the account itself."""

Reader = Annotated[Caller, Depends(_needs("read"))]
"""May read what is theirs (scope `read`)."""

Chatter = Annotated[Caller, Depends(_needs("chat"))]
"""May talk (scope `chat`)."""

Rememberer = Annotated[Caller, Depends(_needs("memory"))]
"""May read and change the memory (scope `memory`)."""

Admin = Annotated[Caller, Depends(_admin)]
"""An admin, with scope `admin`."""


def source_of(request: Request) -> Source:
    """Where a try to sign in comes from."""
    return Source(
        address=request.client.host if request.client else "unknown",
        device=request.headers.get("user-agent", ""),
        device_token=request.cookies.get(DEVICE_COOKIE),
    )


SourceDep = Annotated[Source, Depends(source_of)]
