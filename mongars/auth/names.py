"""Names people sign in with: unique whatever their case and width."""

import re
import unicodedata

from mongars.errors import FieldFault, Invalid

LONGEST = 64
_ALLOWED = re.compile(r"[^\W_](?:[\w.@+-]*[^\W_])?")


def fold(name: str) -> str:
    """The form in which names are compared (NFKC, casefold): `Ａlice` and `alice` are one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def checked(name: str) -> str:
    """The name as it is kept. Raises `Invalid` for what nobody could type or tell apart."""
    kept = unicodedata.normalize("NFKC", name.strip())
    if not 1 <= len(kept) <= LONGEST:
        raise _invalid(f"must have 1 to {LONGEST} characters")
    if not _ALLOWED.fullmatch(kept):
        raise _invalid("may hold letters, digits and . _ @ + - between them")
    return kept


def _invalid(why: str) -> Invalid:
    field = FieldFault(("body", "username"), why)
    return Invalid(f"This name cannot be used: it {why}.", errors=[field])
