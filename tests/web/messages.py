"""The page's texts: which there are, and their translations, compiled.

`python -m tests.web.messages` writes `django.mo` anew after `django.po` was edited.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

WEB = Path(__file__).parents[2] / "mongars" / "web"
FRENCH = WEB / "locale" / "fr" / "LC_MESSAGES" / "django.po"
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2)}

Text = str | tuple[str, ...]


def used() -> Iterator[Text]:
    """Every text that code and templates ask a translation for; a plural is a pair."""
    from django.utils.translation.template import templatize

    for path in sorted(WEB.rglob("*.py")):
        yield from _in(path.read_bytes())
    for path in sorted(WEB.rglob("*.html")):
        yield from _in(templatize(path.read_text(), origin=path.name).encode())


def _in(source: bytes) -> Iterator[Text]:
    for _line, text, _comments, _context in extract("python", io.BytesIO(source), KEYWORDS):
        yield text


def french() -> Catalog:
    """The French texts as they are written down."""
    with FRENCH.open("rb") as file:
        return read_po(file, locale="fr")


def compiled(catalog: Catalog) -> bytes:
    """A catalogue as gettext reads it."""
    written = io.BytesIO()
    write_mo(written, catalog)
    return written.getvalue()


if __name__ == "__main__":
    FRENCH.with_suffix(".mo").write_bytes(compiled(french()))
