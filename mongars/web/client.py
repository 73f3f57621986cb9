"""The one client through which the page speaks to the API: in this process, or over HTTP."""

from collections.abc import Mapping
from typing import Any

import httpx
from starlette.types import ASGIApp

from mongars.errors import (
    URN,
    Busy,
    Conflict,
    Fault,
    FieldFault,
    Forbidden,
    Invalid,
    Missing,
    NotBuilt,
    TooLarge,
    Unavailable,
    Unproven,
)

TIMEOUT_S = 15
"""For what answers at once; waiting for a whole answer of the model has no time-out."""

_KINDS: Mapping[int, type[Fault]] = {
    401: Unproven,
    403: Forbidden,
    404: Missing,
    409: Conflict,
    413: TooLarge,
    429: Busy,
    501: NotBuilt,
}


class ApiClient:
    """Calls the API for one person at a time. Raises a `Fault` for every answer that is none."""

    def __init__(self, *, app: ASGIApp | None = None, base_url: str | None = None) -> None:
        transport = _InProcess(app) if app is not None else httpx.AsyncHTTPTransport(retries=1)
        self._in_process = app is not None
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url=base_url or "http://localhost",
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        source: tuple[str, str] = ("127.0.0.1", ""),
        headers: Mapping[str, str] | None = None,
        patient: bool = False,
    ) -> Any:
        """The answer to a call below `/api/v1`; `source` is the browser's address and name."""
        told = {"user-agent": source[1], **(headers or {})}
        if token is not None:
            told["authorization"] = f"Bearer {token}"
        if not self._in_process:
            told["x-forwarded-for"] = source[0]
        answer = await self._send(
            self._http.build_request(
                method,
                f"/api/v1{path}",
                json=json,
                data=form,
                params=query,
                headers=told,
                timeout=None if patient else TIMEOUT_S,
                extensions={"client": (source[0], 0)},
            )
        )
        if answer.status_code >= 400:
            raise _fault(answer)
        return answer.json() if answer.content else None

    async def ready(self) -> dict[str, Any]:
        """What `/readyz` says of each part, whether all is well or not."""
        answer = await self._send(self._http.build_request("GET", "/readyz"))
        told = _json(answer).get("parts", {})
        return told if isinstance(told, dict) else {}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._http.send(request)
        except httpx.HTTPError as error:
            raise Unavailable("The server does not answer right now.", slug="api-away") from error


class _InProcess(httpx.AsyncBaseTransport):
    """Calls the application itself, in the name of the browser's address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = httpx.ASGITransport(
            app=self._app,
            client=request.extensions.get("client", ("127.0.0.1", 0)),
            raise_app_exceptions=False,
        )
        return await transport.handle_async_request(request)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _fault(answer: httpx.Response) -> Fault:
    """A problem document as the fault it was."""
    told = _json(answer)
    status = answer.status_code
    kind = _KINDS.get(status, Unavailable if status >= 500 else Invalid)
    wait = answer.headers.get("retry-after", "")
    known = {"type", "title", "status", "detail", "request_id", "errors"}
    return kind(
        str(told.get("detail") or "The server could not do this."),
        slug=str(told.get("type", "")).removeprefix(URN) or None,
        errors=[FieldFault(tuple(e["loc"]), str(e["msg"])) for e in told.get("errors", ())],
        retry_after_s=float(wait) if wait.isdigit() else None,
        extra={name: value for name, value in told.items() if name not in known},
    )
