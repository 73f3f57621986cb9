"""Program text with its words marked by class (Pygments)."""

import html

LONGEST = 50_000
"""Characters; longer programs are shown plain, so that a hostile one cannot hold the server."""


def highlighted(source: str, language: str) -> str:
    """The inside of a `code` element; plain where the language is unknown."""
    if not language or len(source) > LONGEST:
        return html.escape(source)
    # Imported here: Pygments is only needed, and only paid for, by answers with programs.
    import pygments
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return html.escape(source)
    return pygments.highlight(source, lexer, HtmlFormatter(nowrap=True))
