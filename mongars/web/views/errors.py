"""What is shown when something is not there, not allowed, or broken."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from mongars.errors import Missing
from mongars.web.faults import fault_page


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404."""
    return fault_page(request, Missing(""), 404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400."""
    title = _("That did not work")
    told = {"title": title, "advice": _("Go back and try once more."), "status": 400}
    return render(request, "error.html", told, status=400)


def broken(request: HttpRequest) -> HttpResponse:
    """500."""
    told = {
        "title": _("Something broke"),
        "advice": _("It is our fault, and the server's log says more. Nothing is lost."),
        "status": 500,
    }
    return render(request, "error.html", told, status=500)


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: the form does not prove that it is ours."""
    told = {
        "title": _("This form is too old"),
        "advice": _("Go back, reload the page and send it again."),
        "detail": _(
            "If this keeps happening behind a proxy, name the proxy in MONGARS_API__TRUSTED_PROXIES."
        ),
        "status": 403,
    }
    return render(request, "error.html", told, status=403)
