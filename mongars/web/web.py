"""The page as one ASGI application: assets, the socket's way through, and Django for the rest."""

import asyncio
import concurrent.futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mongars.errors import NotConfigured
from mongars.web import assets
from mongars.web.client import ApiClient

if TYPE_CHECKING:
    from mongars.settings import Settings

SOCKET = "/api/v1/ws/chat"
CLIENT = "mongars.client"
"""Where Django's views find the client: in the request's scope."""


def create_web(settings: "Settings", data_dir: Path, api: ASGIApp | None) -> ASGIApp:
    """The page over the API in this process, or over the one that `web.api_url` names."""
    if api is None and not settings.web.api_url:
        raise NotConfigured(
            "The page on its own needs the address of the API: set MONGARS_WEB__API_URL."
        )
    return Web(settings, data_dir, api)


class Web:
    """Django is imported beside the start of the server: it takes half a second."""

    def __init__(self, settings: "Settings", data_dir: Path, api: ASGIApp | None) -> None:
        self._url = settings.web.api_url
        self._api = api
        self._root = settings.api.root_path
        self._body_bytes = settings.limits.body_bytes
        self._client = ApiClient(app=api, base_url=self._url if api is None else None)
        pool = concurrent.futures.ThreadPoolExecutor(1, "page")
        self._django: concurrent.futures.Future[Any] = pool.submit(_django, settings, data_dir)
        pool.shutdown(wait=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch by kind and path."""
        if self._root and scope.get("path", "").startswith(f"{self._root}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._root)}
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["path"] == "/healthz":
            await _plain(send, 200, b'{"status":"ok"}')
        elif scope["path"].startswith(assets.PREFIX) and (found := assets.find(scope["path"])):
            await assets.serve(found, scope, receive, send)
        else:
            await self._page(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        django = await asyncio.wrap_future(self._django)
        try:
            length = int(dict(scope["headers"]).get(b"content-length", b"0"))
        except ValueError:
            length = 0
        if length > self._body_bytes:
            await _plain(send, 413, b'{"detail":"This is too large."}')
            return
        await django({**scope, CLIENT: self._client}, self._bounded(receive, send), send)

    def _bounded(self, receive: Receive, send: Send) -> Receive:
        """Receive no more than is taken, whatever the length that was announced."""
        got = 0

        async def inward() -> Message:
            """To Django, a browser that sends too much has left."""
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._body_bytes:
                await _plain(send, 413, b'{"detail":"This is too large."}')
                return {"type": "http.disconnect"}
            return message

        return inward

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._api is None and self._url and scope["path"] == SOCKET:
            from mongars.web.proxy import relay

            await relay(self._url, scope, receive, send)
            return
        await send({"type": "websocket.close", "code": 4404})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._client.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _django(settings: "Settings", data_dir: Path) -> Any:
    from mongars.web.configuration import configure

    configure(settings, data_dir)
    from django.contrib.sessions.backends.file import SessionStore
    from django.core.handlers.asgi import ASGIHandler

    if settings.redis.url is None:
        SessionStore.clear_expired()
    return ASGIHandler()


async def _plain(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
