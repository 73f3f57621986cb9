"""What the HTML of an answer may contain."""

from collections.abc import MutableMapping
from typing import Any

from mongars.bouche.formula import MATHML_ATTRIBUTES, MATHML_TAGS

Env = MutableMapping[str, Any]

SCHEMES = frozenset({"http", "https", "mailto"})
RELATION = "noopener noreferrer nofollow"

BIDI = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")
"""Directional embeddings, overrides and isolates: they can make a text read as another one
(CVE-2021-42574). One character for one, so that positions stay."""

TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "s", "a", "blockquote"),
    *("ul", "ol", "li", "figure", "pre", "code", "span", "div"),
    *("table", "thead", "tbody", "tr", "th", "td"),
    *MATHML_TAGS,
}
ATTRIBUTES = {
    "a": {"href", "title", "class", "target"},
    "ol": {"start"},
    "figure": {"class", "data-lang"},
    "pre": {"tabindex"},
    "code": {"class"},
    "span": {"class"},
    "div": {"class", "tabindex"},
    "th": {"class"},
    "td": {"class"},
    **MATHML_ATTRIBUTES,
}
