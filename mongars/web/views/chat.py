"""Conversations: the list, one of them, and what is said in it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _

from mongars.bouche import render as to_html
from mongars.errors import Fault, Missing, Unavailable
from mongars.web.visit import Visit, page

LISTED = "200"
SHOWN = "100"
"""Messages that are put into the page at once; older ones are a click away."""
FLUENT_PER_S = 8
"""Tokens a second below which an answer is slower than most people read."""
WAYS = frozenset({"regenerate", "continue"})


@page("GET")
async def home(visit: Visit) -> HttpResponse:
    """A new conversation."""
    return await _chat(visit, None)


@page("GET")
async def conversation(visit: Visit, conversation_id: str) -> HttpResponse:
    """One conversation."""
    return await _chat(visit, conversation_id)


async def _chat(visit: Visit, conversation_id: str | None) -> HttpResponse:
    told = await everywhere(visit, current=conversation_id)
    if conversation_id is not None:
        chosen = await visit.call("GET", f"/conversations/{conversation_id}")
        told |= {"conversation": chosen} | await _messages(visit, chosen)
    told |= {"model": await _model(visit), "words": _words()}
    if conversation_id is None and told["model"].get("backend") == "embedded":
        told["starter"] = await _starter(visit)
    return render(visit.request, "chat.html", told)


@page("GET")
async def messages(visit: Visit, conversation_id: str) -> HttpResponse:
    """The messages alone, for the script."""
    chosen = await visit.call("GET", f"/conversations/{conversation_id}")
    return render(visit.request, "_messages.html", await _messages(visit, chosen))


@page("GET")
async def conversations(visit: Visit) -> HttpResponse:
    """The list alone, for the script."""
    current = visit.request.GET.get("current")
    return render(visit.request, "_list.html", await everywhere(visit, current=current))


@page("POST")
async def say(visit: Visit) -> HttpResponse:
    """Say something without a socket, and wait for the whole answer."""
    message = visit.request.POST.get("message", "")
    chosen = visit.request.POST.get("conversation_id", "")
    asked = {"message": message} | ({"conversation_id": chosen} if chosen else {})
    key = visit.request.POST.get("client_id", "")
    headers = {"idempotency-key": key} if key else {}
    asked |= {"client_id": key} if key else {}
    told = await visit.call("POST", "/chat", json=asked, headers=headers, patient=True)
    return _went_on(visit, told)


@page("POST")
async def again(visit: Visit, message_id: str, how: str) -> HttpResponse:
    """Another answer in place of one, or more of it."""
    if how not in WAYS:
        raise Missing("")
    told = await visit.call("POST", f"/messages/{message_id}/{how}", json={}, patient=True)
    return _went_on(visit, told)


def _went_on(visit: Visit, told: Mapping[str, Any]) -> HttpResponse:
    if visit.wants_json:
        return JsonResponse({key: told.get(key) for key in ("turn_id", "conversation_id")})
    return redirect("conversation", conversation_id=told["conversation_id"])


@page("POST")
async def stop(visit: Visit, turn_id: str) -> HttpResponse:
    """Stop an answer, where the socket is away."""
    await visit.call("POST", f"/turns/{turn_id}/stop")
    return JsonResponse({})


@page("POST")
async def ticket(visit: Visit) -> HttpResponse:
    """A ticket for the socket."""
    return JsonResponse(await visit.call("POST", "/ws/ticket"))


@page("POST")
async def rename(visit: Visit, conversation_id: str) -> HttpResponse:
    """Give a conversation another title."""
    title = visit.request.POST.get("title", "").strip()[:200]
    if title:
        await visit.call("PATCH", f"/conversations/{conversation_id}", json={"title": title})
    return redirect("conversation", conversation_id=conversation_id)


@page("POST")
async def delete(visit: Visit, conversation_id: str) -> HttpResponse:
    """Delete a conversation; for 10 seconds it can be brought back."""
    await visit.call("DELETE", f"/conversations/{conversation_id}")
    return redirect(f"{reverse('home')}?{urlencode({'deleted': conversation_id})}")


@page("POST")
async def restore(visit: Visit, conversation_id: str) -> HttpResponse:
    """Bring it back."""
    await visit.call("POST", f"/conversations/{conversation_id}/restore")
    return redirect("conversation", conversation_id=conversation_id)


async def everywhere(visit: Visit, current: str | None = None) -> dict[str, Any]:
    """What every page of a signed-in person shows: the list, and their name."""
    listed = await visit.call("GET", "/conversations", query={"limit": LISTED})
    return {
        "conversations": listed["items"],
        "current": current,
        "username": await visit.name(),
        "deleted": visit.request.GET.get("deleted"),
    }


async def _messages(visit: Visit, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The newest messages of the branch in view, or those before the one that the address names."""
    path, leaf = f"/conversations/{chosen['id']}/messages", chosen["active_leaf_id"]
    before = visit.request.GET.get("before")
    if leaf is None:
        return {"messages": [], "earlier": None}
    part = await visit.call("GET", path, query={"limit": SHOWN, "before": before or leaf})
    found = part["items"]
    if not before:
        found = [*found, await visit.call("GET", f"/messages/{leaf}")]
    return {
        "conversation": chosen,
        "messages": await asyncio.to_thread(_rendered, found),
        "earlier": part["next"],
        "newest": not before,
    }


def _rendered(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with their HTML; what a person wrote is shown as they wrote it."""
    return [_answer(one) if one["role"] == "assistant" else one for one in found]


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    took_ms = ((message.get("details") or {}).get("timing") or {}).get("total_ms")
    return message | {
        "html": mark_safe(to_html(message["text"])),  # noqa: S308 sanitized by bouche
        "seconds": None if took_ms is None else round(took_ms / 1000, 1),
    }


async def _model(visit: Visit) -> dict[str, Any]:
    """What answers, as `/readyz` tells it."""
    try:
        told = (await visit.client.ready()).get("model")
    except Fault:
        return {"state": "away"}
    return told if isinstance(told, dict) else {"state": "away"}


async def _starter(visit: Visit) -> dict[str, Any] | None:
    """What to take instead of the model that came along, where that one answers."""
    try:
        told = await visit.call("GET", "/models")
    except Unavailable:
        return None
    if not any(one["in_use"] and one["built_in"] for one in told["items"]):
        return None
    good = [one for one in told["recommended"] if one["why_not"] is None and not one["tight"]]
    fluent = [one for one in good if one["tokens_per_s"] >= FLUENT_PER_S]
    best = max(fluent, key=lambda one: float(one["parameters_b"]), default=None)
    if best is None:
        return {}
    return {"name": best["name"], "gigabytes": round(best["download_bytes"] / 1e9, 1)}


def _words() -> dict[str, str]:
    """What the script says, in the page's language."""
    return {
        "queued": _("In the queue, place {position}"),
        "waiting": _("Waiting for the model…"),
        "reading": _("Reading {percent} %"),
        "thinking": _("Thinking…"),
        "thought": _("What it thought"),
        "answering": _("monGARS is answering"),
        "answered": _("The answer is complete"),
        "stopped": _("Stopped"),
        "cut": _("The answer reached its longest length"),
        "failed": _("The answer was interrupted"),
        "kept": _("Your message is kept."),
        "reconnecting": _("Reconnecting…"),
        "offline": _("You are offline. What you write here is kept."),
        "without_socket": _("Answers arrive whole: the live connection does not get through."),
        "busy": _("An answer is being written in this conversation already."),
        "copy": _("Copy"),
        "copied": _("Copied"),
        "no_copy": _("Select and copy by hand: this connection is not secure."),
        "seconds": _("{seconds} s"),
        "tokens": _("{count} tokens"),
        "first_token": _("first word after {seconds} s"),
    }
