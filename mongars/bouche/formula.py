"""Formulas as MathML, which browsers show without any script."""

import html

LONGEST = 2_000
"""Characters of one formula; a longer one is shown as it was written."""
DEEPEST = 40
"""Braces inside braces; the converter is recursive."""

MATHML_TAGS = frozenset(
    {
        *("math", "semantics", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "none"),
        *("msqrt", "mroot", "mfrac", "msub", "msup", "msubsup", "munder", "mover", "munderover"),
        *("mmultiscripts", "mprescripts", "mtable", "mtr", "mtd", "mstyle", "mpadded"),
        *("mphantom", "menclose", "merror"),
    }
)
_COMMON = {"mathvariant", "displaystyle", "scriptlevel", "stretchy", "fence", "form", "separator"}
_SIZES = {"minsize", "maxsize", "width", "height", "depth", "lspace", "rspace", "linethickness"}
_LAYOUT = {"columnalign", "rowspacing", "columnspacing", "columnlines", "rowlines", "accent"}
_MORE = {"accentunder", "movablelimits", "largeop", "notation", "display", "symmetric"}
MATHML_ATTRIBUTES = dict.fromkeys(MATHML_TAGS, _COMMON | _SIZES | _LAYOUT | _MORE)


def mathml(source: str, *, display: bool) -> str:
    """The formula; or its source as code where it cannot be read."""
    plain = f'<code class="formula">{html.escape(source)}</code>'
    if len(source) > LONGEST or _depth(source) > DEEPEST:
        return plain
    from latex2mathml.converter import convert

    try:
        return str(convert(source, display="block" if display else "inline"))
    except Exception:  # noqa: BLE001 the converter raises what it likes; the source says it all
        return plain


def _depth(source: str) -> int:
    deepest = depth = 0
    for character in source:
        depth += (character == "{") - (character == "}")
        deepest = max(deepest, depth)
    return deepest + source.count("\\left")
