"""The border every request crosses: host, size, request id, security headers, the access log."""

import asyncio
import fnmatch
import re
import time
from collections.abc import Iterable
from urllib.parse import parse_qsl

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mongars.api.problems import answer
from mongars.errors import Fault, FieldFault, Forbidden, Invalid, Malformed, Missing, TooLarge
from mongars.ids import new_id

log = structlog.get_logger()

ANY_HOST = frozenset({"/healthz", "/readyz", "/metrics"})
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "testserver")
UPLOADS = ("/documents", "/conversations/import")
IMPORT_BYTES = 2 * 1024**3
BETWEEN_PIECES_S = 60
"""How long the next piece of a body may take."""
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9_.-]{8,64}$")

API_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""What an answer carries unless the route set it itself."""


class Border:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], body_bytes: int) -> None:
        self._app = app
        self._hosts = tuple(host.lower() for host in (*LOOPBACK, *hosts))
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it in, refuse it, and tell how it went."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.match(given) else new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        twice = sum(name == b"host" for name, _ in scope["headers"]) > 1
        if twice or not self._host_allowed(scope["path"], headers.get(b"host", b"")):
            await _refuse_host(scope, receive, send)
            return
        if fault := _unreadable(scope):
            await _refuse(fault, scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._http(scope, receive, send, headers, request_id)

    async def _http(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        request_id: str,
    ) -> None:
        began = time.perf_counter()
        status = 500
        most = IMPORT_BYTES if _is_upload(scope["path"], headers) else self._body_bytes

        async def outward(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request_id)
            await send(message)

        try:
            if int(headers.get(b"content-length", b"0") or 0) > most:
                await answer(_too_large(most), Request(scope))(scope, receive, outward)
            else:
                await self._app(scope, _bounded(receive, most), outward)
        finally:
            log.debug(
                "api.answered",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.perf_counter() - began) * 1000, 1),
            )

    def _host_allowed(self, path: str, host: bytes) -> bool:
        if path in ANY_HOST or "*" in self._hosts:
            return True
        name = host.decode("latin-1").lower()
        name = name if name.endswith("]") else re.sub(r":\d*$", "", name)
        return (
            any(fnmatch.fnmatchcase(name, allowed) for allowed in self._hosts if "[" not in allowed)
            or name in self._hosts
        )


def _is_upload(path: str, headers: dict[bytes, bytes]) -> bool:
    kind = headers.get(b"content-type", b"")
    return kind.startswith(b"multipart/form-data") and path.endswith(UPLOADS)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body is larger than {most:,} bytes.")


def _bounded(receive: Receive, most: int) -> Receive:
    """Receive no more than `most` bytes, whatever length was announced, and not for ever."""
    got = 0
    whole = False

    async def inward() -> Message:
        nonlocal got, whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout(BETWEEN_PIECES_S):
                message = await receive()
        except TimeoutError as error:
            raise Malformed("The body did not come to its end.", slug="malformed") from error
        whole = not message.get("more_body", False)
        if message["type"] == "http.request":
            got += len(message.get("body", b""))
            if got > most:
                raise _too_large(most)
        return message

    return inward


def _add_headers(message: Message, request_id: str) -> None:
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
    present = {name.lower() for name, _ in headers}
    headers += [one for one in API_HEADERS if one[0] not in present]
    headers.append((b"x-request-id", request_id.encode()))
    message["headers"] = headers


def _unreadable(scope: Scope) -> Fault | None:
    """An address that names NUL names nothing: no text of ours holds one."""
    if "\x00" in scope["path"]:
        return Missing("There is nothing at this address.", slug="no-such-address")
    if b"%00" in scope["query_string"]:
        fields = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return Invalid(
            "Some fields are not as they must be.",
            errors=[
                FieldFault(("query", name[:100]), "a text must not contain the character NUL")
                for name, value in fields
                if "\x00" in name + value
            ][:20],
        )
    return None


async def _refuse_host(scope: Scope, receive: Receive, send: Send) -> None:
    fault = Forbidden(
        "This name is not one monGARS answers to; add it to MONGARS_API__ALLOWED_HOSTS.",
        slug="host-not-allowed",
    )
    await _refuse(fault, scope, receive, send)


async def _refuse(fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4403})
        return
    await answer(fault, Request(scope))(scope, receive, send)
