"""The dialect of markdown that answers are written in, and the elements it becomes."""

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from mdit_py_plugins.dollarmath import dollarmath_plugin

from mongars.bouche import brackets
from mongars.bouche.allowed import SCHEMES, Env
from mongars.bouche.code import highlighted
from mongars.bouche.formula import mathml

HEADINGS_DOWN = 2
"""An answer's `#` becomes an h3: h1 and h2 are the page's own."""


def dialect() -> MarkdownIt:
    """A parser of CommonMark, tables, strikethrough, formulas between dollars or brackets."""
    made = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Html)
    made.enable(["table", "strikethrough"])
    # Without blank lines in formulas an open `$$` never changes what was before a blank line.
    dollarmath_plugin(
        made,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
        renderer=lambda source, how: mathml(source, display=bool(how["display_mode"])),
    )
    brackets.plugin(made)
    made.validateLink = _is_absolute  # type: ignore[method-assign]
    return made


def _is_absolute(url: str) -> bool:
    scheme, colon, rest = url.strip().partition(":")
    return (
        bool(colon)
        and scheme.lower() in SCHEMES
        and (scheme.lower() == "mailto" or rest.startswith("//"))
    )


class _Html(RendererHTML):
    """The library's renderer with our own elements for links, code, tables and headings."""

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        tokens[idx].attrSet("target", "_blank")
        return self.renderToken(tokens, idx, options, env)

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        """A link to the image: it is never loaded unasked."""
        token = tokens[idx]
        source = str(token.attrGet("src") or "")
        alt = self.renderInlineAsText(token.children, options, env) if token.children else ""
        return (
            f'<a class="image" target="_blank" href="{escapeHtml(source)}">'
            f"{escapeHtml(alt or source)}</a>"
        )

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        language = token.info.strip().split(maxsplit=1)[0] if token.info.strip() else ""
        return _code(token.content, language)

    def code_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return _code(tokens[idx].content, "")

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return '<div class="table" tabindex="0"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        return "</table></div>\n"

    def _cell(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        style = str(token.attrs.pop("style", ""))
        if style:
            token.attrSet("class", style.removeprefix("text-align:").strip())
        return self.renderToken(tokens, idx, options, env)

    th_open = td_open = _cell

    def _heading(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: Env) -> str:
        token = tokens[idx]
        token.tag = f"h{min(6, int(token.tag[1]) + HEADINGS_DOWN)}"
        return self.renderToken(tokens, idx, options, env)

    heading_open = heading_close = _heading


def _code(content: str, language: str) -> str:
    label = f' data-lang="{escapeHtml(language[:40])}"' if language else ""
    inner = highlighted(content, language)
    return f'<figure class="code"{label}><pre tabindex="0"><code>{inner}</code></pre></figure>\n'
