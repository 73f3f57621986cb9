"""What every template knows."""

from typing import Any

from django.http import HttpRequest
from django.utils import translation

from mongars.web import assets


def surroundings(request: HttpRequest) -> dict[str, Any]:
    """Language, theme and the addresses of the assets."""
    root = request.scope.get("root_path", "") if hasattr(request, "scope") else ""
    return {
        "language": translation.get_language(),
        "languages": [("en", "English"), ("fr", "Français")],
        "theme": getattr(request, "theme", "system"),
        "here": request.get_full_path(),
        "root": root,
        "style": assets.address("page.css", root),
        "script": assets.address("page.js", root),
        "chat_script": assets.address("chat.js", root),
        "mark": assets.address("mark.svg", root),
    }
