"""How the page looks, and one's own account."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from mongars.errors import Fault, Forbidden, Invalid, Missing
from mongars.web.middleware import THEME_COOKIE, THEMES
from mongars.web.views.account import farewell, onward_of
from mongars.web.views.chat import everywhere
from mongars.web.visit import YEAR_S, Visit, page


@page("GET")
async def settings(visit: Visit) -> HttpResponse:
    """Language, theme, password, sessions."""
    return await _shown(visit)


async def _shown(visit: Visit, status: int = 200, **more: Any) -> HttpResponse:
    told, sessions = await asyncio.gather(everywhere(visit), visit.call("GET", "/me/sessions"))
    told |= {"sessions": [_session(one) for one in sessions["items"]], "at": "settings"}
    return render(visit.request, "settings.html", told | more, status=status)


def _session(one: Mapping[str, Any]) -> dict[str, Any]:
    """A session as it is shown: what it is, and when it was last seen."""
    return {
        "id": one["id"],
        "name": device(one.get("device") or ""),
        "current": bool(one.get("current")),
        "at": one.get("last_seen_at") or one.get("created_at"),
    }


BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari")
NAMED = {"Edg": "Edge", "OPR": "Opera"}
SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "Linux")


def device(agent: str) -> str:
    """A browser's long name in two words, as in `Firefox, Linux`; other programs as they call
    themselves."""
    browser = next((one for one in BROWSERS if f"{one}/" in agent), None)
    system = next((one for one in SYSTEMS if one in agent), None)
    if browser and system:
        return f"{NAMED.get(browser, browser)}, {system}"
    return agent[:80] or str(_("A device"))


@page("POST")
async def look(visit: Visit) -> HttpResponse:
    """Choose language and theme; they are kept by the browser, signed in or not."""
    request = visit.request
    response = redirect(onward_of(visit) or "home")
    chosen = {
        django_settings.LANGUAGE_COOKIE_NAME: (
            request.POST.get("language"),
            [code for code, _name in django_settings.LANGUAGES],
        ),
        THEME_COOKIE: (request.POST.get("theme"), THEMES),
    }
    for name, (value, known) in chosen.items():
        if value in known:
            response.set_cookie(name, value, max_age=YEAR_S, httponly=True, samesite="Lax")
    return response


@page("POST")
async def password(visit: Visit) -> HttpResponse:
    """Change one's password."""
    given = visit.request.POST
    if given.get("password", "") != given.get("again", ""):
        return await _shown(visit, 422, fault=_("The two passwords differ."))
    asked = {
        "current_password": given.get("current", ""),
        "new_password": given.get("password", ""),
    }
    try:
        await visit.call("POST", "/me/password", json=asked)
    except (Invalid, Forbidden) as fault:
        return await _shown(visit, 422, fault=_why_not_changed(fault))
    return await _shown(visit, changed=True)


def _why_not_changed(fault: Fault) -> str:
    known = {
        "wrong-password": _("That is not your password now."),
        "weak-password": _("This password is too short, or too easy to guess."),
    }
    return str(known.get(fault.problem, fault.detail))


@page("POST")
async def end_session(visit: Visit) -> HttpResponse:
    """Sign out another device."""
    await _end(visit, visit.request.POST.get("id", ""))
    return redirect("settings")


@page("POST")
async def end_all(visit: Visit) -> HttpResponse:
    """Sign out everywhere, here last."""
    for one in (await visit.call("GET", "/me/sessions"))["items"]:
        if not one.get("current"):
            await _end(visit, one["id"])
    await visit.sign_out()
    return farewell()


async def _end(visit: Visit, session_id: str) -> None:
    if not session_id.replace("-", "").isalnum():
        raise Missing("")
    with contextlib.suppress(Missing):  # it has ended by itself meanwhile
        await visit.call("DELETE", f"/me/sessions/{session_id}")
