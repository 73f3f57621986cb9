"""Faults as pages."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from mongars.errors import Busy, Fault, Forbidden, Missing, TooLarge, Unavailable


def words(fault: Fault) -> tuple[str, str]:
    """A title for a fault, and what to do now; the fault's own detail is shown below them."""
    match fault:
        case Missing():
            return _("Nothing is here"), _(
                "It may have been deleted, or it belongs to someone else."
            )
        case Forbidden():
            return _("This is not yours to do"), _("Your account does not allow it.")
        case Busy():
            return _("One moment, please"), _("That was a lot at once. Try again shortly.")
        case TooLarge():
            return _("That is too much"), _("What was sent is larger than the server takes.")
        case Unavailable():
            return _("The server is away"), _("Nothing is lost. Try again in a moment.")
        case _:
            return _("That did not work"), _("Go back and try once more.")


def fault_page(request: HttpRequest, fault: Fault, status: int) -> HttpResponse:
    """A whole page for a fault."""
    title, advice = words(fault)
    told: dict[str, Any] = {"title": title, "advice": advice, "detail": fault.detail}
    if isinstance(fault, Missing):
        del told["detail"]  # the advice says the same, in the reader's language
    return render(request, "error.html", told | {"status": status}, status=status)
