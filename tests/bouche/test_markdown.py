"""Markdown as safe HTML."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.bouche import render
from mongars.bouche.allowed import ATTRIBUTES, TAGS

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg><animate onbegin=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt&colon;alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](vbscript:x)",
    "<javascript:alert(1)>",
    "![a](data:image/svg+xml;base64,PHN2Zz4=)",
    "[a](//evil.example/x)",
    "[a](/logout)",
    '[a](https://x.example "t" onclick=alert(1))',
    '```"><script>alert(1)</script>\nx\n```',
    "```python onload=alert(1)\nx\n```",
    "$\\href{javascript:alert(1)}{x}$",
    "$$\\style{color:red}{x}$$",
    "$\\text{<script>alert(1)</script>}$",
    "$\\unicode{x3cscript}$",
    "| <b onclick=x> |\n|--|\n| <iframe src=x> |",
    "[x]: javascript:alert(1)\n\n[x]",
]


class Seen(HTMLParser):
    """Every element and attribute of a text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def check(html: str) -> None:
    for tag, attributes in Seen(html).elements:
        assert tag in TAGS
        assert set(attributes) <= ATTRIBUTES.get(tag, set()) | {"rel"}
        if "href" in attributes:
            assert (attributes["href"] or "").startswith(("https://", "http://", "mailto:"))
            assert attributes["rel"] == "noopener noreferrer nofollow"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_becomes_harmless(text: str) -> None:
    check(render(text))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*HOSTILE, "`", "*", "\n", "> ", "- ", "$", "&#60;"]), max_size=8))
def test_no_mixture_of_them_is_harmful(parts: list[str]) -> None:
    check(render("".join(parts)))


def test_raw_html_is_shown_as_the_text_it_is() -> None:
    assert render("<b>x</b>\n\n<div>y</div>") == (
        "<p>&lt;b&gt;x&lt;/b&gt;</p>\n<p>&lt;div&gt;y&lt;/div&gt;</p>\n"
    )


def test_an_image_is_a_link_and_is_never_loaded() -> None:
    html = render("![a cat](https://pictures.example/cat.png?who=me)")
    assert "<img" not in html
    assert 'class="image"' in html
    assert ">a cat</a>" in html


def test_directional_overrides_are_shown_as_unreadable_characters() -> None:
    html = render("safe\u202egnp.exe\u202c and `x\u2066y`")
    assert "\u202e" not in html
    assert "\u2066" not in html
    assert "\ufffd" in html


def test_programs_are_marked_by_class_never_by_style() -> None:
    html = render('```python\ndef f():\n    return "a"\n```')
    assert '<span class="k">def</span>' in html
    assert 'data-lang="python"' in html
    assert "style=" not in html


def test_an_unknown_language_is_shown_plain() -> None:
    assert "x &lt; y" in render("```klingon\nx < y\n```")


def test_tables_align_by_class() -> None:
    html = render("| a |\n|--:|\n| 1 |")
    assert '<td class="right">1</td>' in html
    assert "style=" not in html


def test_formulas_are_mathml_and_prices_are_not_formulas() -> None:
    assert "<msup>" in render("So $x^2$ it is.")
    assert 'display="block"' in render("$$\n\\frac{a}{b}\n$$")
    assert "<math" not in render("It costs $5 or $10 a day.")


def test_formulas_in_brackets_are_read_and_plain_brackets_stay() -> None:
    assert "<msup>" in render(r"So \(x^2\) it is.")
    assert 'display="block"' in render("\\[\na = \\frac{b}{c}\n\\]")
    assert render(r"He wrote \[sic\] so.") == "<p>He wrote [sic] so.</p>\n"
    assert "<math" not in render("`\\(x\\)` and \\( open")


def test_a_formula_that_cannot_be_read_is_shown_as_written() -> None:
    assert "\\frac{" in render("$\\frac{$")
    assert "<code" in render("$" + "{" * 900 + "x" + "}" * 900 + "$")


def test_headings_stay_below_those_of_the_page() -> None:
    assert render("# One").startswith("<h3>One</h3>")
    assert render("###### Six").startswith("<h6>Six</h6>")


def test_deep_nesting_neither_fails_nor_takes_long() -> None:
    for text in (
        "> " * 2_000 + "x",
        "- " * 2_000 + "x",
        "[" * 5_000,
        "*a " * 5_000,
        "$" * 5_000,
        "\\(" * 9_000,
    ):
        check(render(text))


def test_importing_takes_no_highlighter_and_no_parser_of_formulas() -> None:
    code = (
        "import sys, mongars.bouche;"
        "print([m for m in ('markdown_it', 'pygments', 'latex2mathml', 'nh3', 'django') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
