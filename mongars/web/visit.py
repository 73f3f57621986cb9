"""One request of a browser: who is asking, and the API in their name.

Tokens stay on this side. The access token is short-lived; when it has ended it is exchanged at
`/token/refresh`, and what comes back is stored at once: another tab may be a moment behind.
"""

import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from mongars.errors import Fault, Forbidden, Invalid, Unproven, meaning
from mongars.web.client import ApiClient
from mongars.web.faults import fault_page

EARLY_S = 20
"""How long before its end a token is exchanged."""
TOKENS = "tokens"
NAME = "username"
YEAR_S = 365 * 24 * 3600


class Visit:
    """A browser's request, and what may be asked of the API for it."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.client: ApiClient = request.scope["mongars.client"]
        address = request.META.get("REMOTE_ADDR") or "127.0.0.1"
        self.source = (address, request.headers.get("user-agent", "")[:200])
        self.device: str | None = None
        self.renewed = False

    @property
    def wants_json(self) -> bool:
        """Whether the page's script is asking."""
        return "application/json" in self.request.headers.get("accept", "")

    async def signed_in(self) -> bool:
        """Whether this browser has tokens; whether they still hold, the API says."""
        return await self.request.session.aget(TOKENS) is not None

    async def name(self) -> str:
        """The person's name."""
        return str(await self.request.session.aget(NAME, ""))

    async def call(self, method: str, path: str, **asked: Any) -> Any:
        """Call the API in the person's name. Raises `Unproven` when they have to sign in again."""
        token = await self._token()
        try:
            return await self.client.call(method, path, token=token, source=self.source, **asked)
        except Unproven:
            token = await self._exchange(token)
            return await self.client.call(method, path, token=token, source=self.source, **asked)

    async def ask(self, method: str, path: str, **asked: Any) -> Any:
        """Call the API in nobody's name."""
        return await self.client.call(method, path, source=self.source, **asked)

    async def sign_in(self, username: str, password: str, otp: str = "") -> None:
        """Exchange a password for tokens, in a session that is new."""
        form = {"grant_type": "password", "username": username, "password": password}
        if otp:
            form["otp"] = otp
        if device := self.request.COOKIES.get(device_cookie()):
            form["device_token"] = device
        await self.welcome(await self.ask("POST", "/token", form=form), username)

    async def welcome(self, told: Mapping[str, Any], username: str | None = None) -> None:
        """Keep the tokens of somebody who has just proved who they are, in a session that is new."""
        session = self.request.session
        await session.aflush()
        await session.aset(TOKENS, _kept(told))
        self.device = told.get("device_token")
        if username is None:
            username = (await self.call("GET", "/me"))["username"]
        await session.aset(NAME, username)

    async def sign_out(self) -> None:
        """End the tokens at the API and the session here, even where the API has ended them."""
        if await self.signed_in():
            try:
                await self.call("POST", "/auth/logout")
            except Unproven:
                pass
            finally:
                await self.request.session.aflush()

    async def _token(self) -> str:
        tokens = await self.request.session.aget(TOKENS)
        if tokens is None:
            raise Unproven("Please sign in.")
        if tokens["until"] > time.time() + EARLY_S:
            return str(tokens["access"])
        return await self._exchange(tokens["access"])

    async def _exchange(self, old: str) -> str:
        """A fresh access token: the one another tab has fetched, or our own."""
        session = self.request.session
        stored = (await type(session)(session.session_key).aload()).get(TOKENS)
        if stored is None:
            raise Unproven("Please sign in.")
        if stored["access"] == old or stored["until"] <= time.time() + EARLY_S:
            try:
                told = await self.ask(
                    "POST", "/token/refresh", json={"refresh_token": stored["refresh"]}
                )
            except (Unproven, Forbidden, Invalid) as error:
                raise Unproven("Please sign in again.") from error
            stored = _kept(told)
        await session.aset(TOKENS, stored)
        try:
            await session.asave()
            # Saved again at the end of a long request it would undo what other tabs stored since.
            session.modified = False
            self.renewed = True
        except UpdateError as error:  # signed out in another tab meanwhile
            raise Unproven("Please sign in.") from error
        return str(stored["access"])


def _kept(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "access": told["access_token"],
        "refresh": told["refresh_token"],
        "until": time.time() + float(told["expires_in"]),
    }


View = Callable[..., Awaitable[HttpResponse]]


def page(*methods: str) -> Callable[[View], Callable[..., Awaitable[HttpResponse]]]:
    """A view that is given a `Visit`, takes these methods, and whose faults become pages."""

    def around(view: View) -> Callable[..., Awaitable[HttpResponse]]:
        @functools.wraps(view)
        async def wrapped(request: HttpRequest, **parts: str) -> HttpResponse:
            if request.method not in (*methods, "HEAD" if "GET" in methods else ""):
                return HttpResponseNotAllowed(methods)
            visit = Visit(request)
            try:
                return _remembered(visit, await view(visit, **parts))
            except Unproven:
                await request.session.aflush()
                return _to_login(visit)
            except Fault as fault:
                return shown(visit, fault)

        return wrapped

    return around


def root() -> str:
    """The path below which a reverse proxy shows the page."""
    return settings.FORCE_SCRIPT_NAME or ""


def here(request: HttpRequest) -> str:
    """The address of a request, as the browser sees it."""
    query = request.META.get("QUERY_STRING", "")
    return f"{root()}{request.path_info}{'?' if query else ''}{query}"


def device_cookie() -> str:
    """The name of the cookie that remembers a device: strangers' wrong tries do not lock it out."""
    return str(settings.SESSION_COOKIE_NAME).replace("session", "device")


def _remembered(visit: Visit, response: HttpResponse) -> HttpResponse:
    if visit.renewed and not visit.request.session.modified:
        response.set_cookie(
            settings.SESSION_COOKIE_NAME,
            visit.request.session.session_key,
            max_age=settings.SESSION_COOKIE_AGE,
            httponly=True,
            samesite="Lax",
        )
    if visit.device:
        response.set_cookie(
            device_cookie(), visit.device, max_age=YEAR_S, httponly=True, samesite="Lax"
        )
    return response


def _to_login(visit: Visit) -> HttpResponse:
    login = reverse("login")
    if visit.wants_json:
        return JsonResponse({"problem": "unproven", "login": login}, status=401)
    if visit.request.method == "GET" and visit.request.path_info != "/":
        return redirect(f"{login}?{urlencode({'next': here(visit.request)})}")
    return redirect(login)


def shown(visit: Visit, fault: Fault) -> HttpResponse:
    """A fault as a page, or as JSON for the script."""
    status = meaning(fault).status
    if visit.wants_json:
        told = {
            "problem": fault.problem,
            "detail": fault.detail,
            "retry_after": fault.retry_after_s,
        }
        return JsonResponse(told, status=status)
    return fault_page(visit.request, fault, status)
