"""Markdown as HTML that is safe to put into the page.

Three fences, one behind the other: raw HTML in an answer is text, not markup; links go only to
absolute web and mail addresses, and an image becomes a link (loading it would tell its server who
reads what); and all that comes out passes a sanitizer that knows only the elements written here.
Styles are classes, never attributes: the page's content security policy forbids inline styles.
"""

from functools import cache
from typing import TYPE_CHECKING

from mongars.bouche.allowed import ATTRIBUTES, BIDI, RELATION, SCHEMES, TAGS, Env

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


def render(text: str, env: Env | None = None) -> str:
    """The HTML of a whole text. `env` carries link definitions from one part to the next."""
    return sanitized(parser().render(text.translate(BIDI), {} if env is None else env))


def sanitized(html: str) -> str:
    """Only the elements and attributes that an answer may have."""
    import nh3

    return nh3.clean(
        html,
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=set(SCHEMES),
        link_rel=RELATION,
        strip_comments=True,
    )


@cache
def parser() -> "MarkdownIt":
    """The parser, made when it is first needed: its import costs what a start should not."""
    from mongars.bouche.dialect import dialect

    return dialect()
