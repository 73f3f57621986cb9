"""Coming in and going out."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mongars.errors import Busy, Conflict, Fault, Forbidden, Invalid, Unproven
from mongars.web.visit import Visit, page


@page("GET", "POST")
async def login(visit: Visit) -> HttpResponse:
    """Sign in; the second factor is asked for when the API asks for it."""
    request = visit.request
    onward = request.POST.get("next") or request.GET.get("next") or ""
    ways = await visit.ask("GET", "/auth/ways")
    told: dict[str, Any] = {"next": onward, "left": "left" in request.GET, "ways": ways}
    if request.method == "GET":
        if await visit.signed_in():
            return redirect("home")
        return render(request, "login.html", told) if ways["set_up"] else redirect("setup")
    username, password = request.POST.get("username", "").strip(), request.POST.get("password", "")
    otp = request.POST.get("otp", "").replace(" ", "")
    try:
        await visit.sign_in(username, password, otp)
    except (Unproven, Forbidden, Invalid, Busy) as fault:
        told |= {"username": username, "fault": _why_not(fault, tried=bool(otp))}
        if fault.problem.startswith("otp"):
            # The second step sends the password again: it is kept nowhere on the way.
            told |= {"otp": True, "password": password}
        return render(request, "login.html", told, status=429 if isinstance(fault, Busy) else 401)
    return redirect(onward_of(visit) or "home")


def _why_not(fault: Fault, *, tried: bool) -> str:
    if isinstance(fault, Busy):
        seconds = max(1, round(fault.retry_after_s or 60))
        return str(
            ngettext(
                "Too many tries. Wait %(seconds)d second, then try again.",
                "Too many tries. Wait %(seconds)d seconds, then try again.",
                seconds,
            )
            % {"seconds": seconds}
        )
    if fault.problem.startswith("otp"):
        return str(_("That code is not right.")) if tried else ""
    if isinstance(fault, Forbidden):
        return str(_("This account is switched off. Ask an admin."))
    return str(_("The name or the password is not right."))


@page("GET")
async def oidc(visit: Visit) -> HttpResponse:
    """Back from the provider, with a code that the API exchanges for tokens once."""
    code = visit.request.GET.get("code", "")
    await visit.welcome(await visit.ask("POST", "/auth/oidc/finish", json={"code": code}))
    return redirect("home")


@page("GET", "POST")
async def setup(visit: Visit) -> HttpResponse:
    """The first admin, with the one-time code."""
    return await _create(visit, "setup.html", "/auth/setup", "setup_code")


@page("GET", "POST")
async def register(visit: Visit) -> HttpResponse:
    """An account of one's own, by invitation or where registration is open."""
    return await _create(visit, "register.html", "/auth/register", "invitation")


async def _create(visit: Visit, template: str, path: str, code: str) -> HttpResponse:
    request = visit.request
    if request.method == "GET":
        return render(request, template, {code: request.GET.get(code, "")})
    given = request.POST.get(code, "").strip()
    username, password = request.POST.get("username", "").strip(), request.POST.get("password", "")
    told = {"username": username, code: given}
    if password != request.POST.get("again", ""):
        told["fault"] = _("The two passwords differ.")
        return render(request, template, told, status=422)
    asked = {"username": username, "password": password} | ({code: given} if given else {})
    try:
        await visit.ask("POST", path, json=asked)
    except (Unproven, Forbidden, Invalid, Conflict, Busy) as fault:
        told["fault"] = _why_not_created(fault)
        return render(request, template, told, status=422)
    await visit.sign_in(username, password)
    return redirect("home")


def _why_not_created(fault: Fault) -> str:
    if isinstance(fault, Busy):
        return _why_not(fault, tried=False)
    known = {
        "setup-code-wrong": _("This code is not right, or it has been used."),
        "set-up-already": _("The first admin is there already. Sign in instead."),
        "not-set-up": _("The first admin comes first, with the one-time code."),
        "invitation-invalid": _("This invitation was used, or has ended."),
        "registration-closed": _("To join here you need an invitation from an admin."),
        "name-taken": _("This name is taken."),
        "weak-password": _("This password is too short, or too easy to guess."),
    }
    return str(known.get(fault.problem, fault.detail))


@page("POST")
async def logout(visit: Visit) -> HttpResponse:
    """Sign out here; the API ends the tokens at once."""
    await visit.sign_out()
    return farewell()


def farewell() -> HttpResponse:
    """The door, which tells the other tabs and clears what this browser had kept."""
    return redirect(f"{reverse('login')}?left=1")


def onward_of(visit: Visit) -> str | None:
    """The address that the form asks to go on to, if it is one of ours."""
    request = visit.request
    onward = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(
        onward, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return onward if safe else None
