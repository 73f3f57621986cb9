"""What surrounds every page: its language and theme, and the headers that guard it."""

from collections.abc import Awaitable, Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.decorators import async_only_middleware

from mongars.web.visit import YEAR_S

THEME_COOKIE = "mongars_theme"
THEMES = ("system", "light", "dark")

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponse]]

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with it browsers send `Origin: null` with forms, which nobody can check.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}


@async_only_middleware  # type: ignore[untyped-decorator]
def surroundings(get_response: GetResponse) -> GetResponse:
    """Django's middleware around all others."""

    async def middleware(request: HttpRequest) -> HttpResponse:
        try:
            host = request.get_host()
        except DisallowedHost:
            return HttpResponse(
                "This name is not one monGARS answers to; add it to MONGARS_API__ALLOWED_HOSTS.\n",
                status=403,
                content_type="text/plain; charset=utf-8",
            )
        theme = request.COOKIES.get(THEME_COOKIE)
        request.theme = theme if theme in THEMES else THEMES[0]
        language = translation.get_language_from_request(request)
        with translation.override(language):
            response = await get_response(request)
        _guard(request, response, host, language)
        return response

    return middleware


def _guard(request: HttpRequest, response: HttpResponse, host: str, language: str) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Content-Security-Policy"] = policy(host)
    response.headers["Content-Language"] = language
    if request.is_secure():
        response.headers["Strict-Transport-Security"] = f"max-age={YEAR_S}"
        for cookie in response.cookies.values():
            cookie["secure"] = True


def policy(host: str) -> str:
    """Nothing from elsewhere and nothing inline; the socket's scheme is named for older browsers."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self';"
        f" connect-src 'self' ws://{host} wss://{host}; manifest-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )
