"""What every template knows."""

from typing import Any

from django.http import HttpRequest
from django.utils import translation

from mongars.web import assets
from mongars.web.visit import here, root


def surroundings(request: HttpRequest) -> dict[str, Any]:
    """Language, theme and the addresses of the assets."""
    return {
        "language": translation.get_language(),
        "languages": [("en", "English"), ("fr", "Français")],
        "theme": getattr(request, "theme", "system"),
        "here": here(request),
        "root": root(),
        "style": assets.address("page.css", root()),
        "script": assets.address("page.js", root()),
        "chat_script": assets.address("chat.js", root()),
        "mark": assets.address("mark.svg", root()),
    }
