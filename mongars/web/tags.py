"""Template tags: icons and times."""

from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_ICONS = {
    "new": '<path d="M12 5v14M5 12h14"/>',
    "menu": '<path d="M4 7h16M4 12h16M4 17h10"/>',
    "send": '<path d="M12 19V5M6 11l6-6 6 6"/>',
    "stop": '<rect x="7" y="7" width="10" height="10" rx="2" fill="currentColor"/>',
    "edit": '<path d="M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4"/>',
    "trash": '<path d="M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13"/>',
    "again": '<path d="M19 12a7 7 0 1 1-2-5M19 4v4h-4"/>',
    "settings": '<path d="M4 8h9M17 8h3M4 16h3M11 16h9"/><circle cx="15" cy="8" r="2"/>'
    '<circle cx="9" cy="16" r="2"/>',
    "leave": '<path d="M14 5H6v14h8M11 12h9M16 8l4 4-4 4"/>',
    "down": '<path d="M12 5v14M6 13l6 6 6-6"/>',
    "close": '<path d="M6 6l12 12M18 6L6 18"/>',
    "copy": '<rect x="9" y="9" width="11" height="11" rx="2"/><path d="M5 15V6a2 2 0 0 1 2-2h8"/>',
    "more": '<circle cx="6" cy="12" r="1"/><circle cx="12" cy="12" r="1"/>'
    '<circle cx="18" cy="12" r="1"/>',
}


@register.simple_tag  # type: ignore[untyped-decorator]
def icon(name: str) -> SafeString:
    """A picture beside words that say the same: hidden from screen readers."""
    return mark_safe(  # noqa: S308 our own constants
        f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">{_ICONS[name]}</svg>'
    )


@register.simple_tag  # type: ignore[untyped-decorator]
def when(at: str | None) -> SafeString | str:
    """A time; the page's script shows it in the reader's own zone."""
    if not at:
        return ""
    moment = datetime.fromisoformat(at).astimezone(UTC)
    return format_html('<time datetime="{}">{}</time>', at, f"{moment:%Y-%m-%d %H:%M} UTC")
