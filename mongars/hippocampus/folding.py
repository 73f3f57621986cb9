"""Texts as they are searched: without case and accents."""

import unicodedata


class _Folding(dict[int, str]):
    """Folds character by character, so that a part of a text folds to a part of its folding."""

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code).casefold())
        folded = "".join(part for part in parts if not unicodedata.combining(part)).casefold()
        self[code] = folded
        return folded


_FOLDING = _Folding()


def fold(text: str) -> str:
    """The text without case and accents (NFKD, Unicode's case folding)."""
    return text.lower() if text.isascii() else text.translate(_FOLDING)


def find(text: str, folded_query: str) -> tuple[int, int] | None:
    """Where in `text` the first part lies whose folding holds `folded_query`: start and end."""
    folded = fold(text)
    start = folded.find(folded_query)
    if start < 0:
        return None
    end = start + len(folded_query)
    if text.isascii():
        return start, end
    return _index_of(text, start), _index_of(text, end - 1) + 1


def _index_of(text: str, place: int) -> int:
    """The index of the character of `text` that the folding's character at `place` came from."""
    reached = 0
    for index, character in enumerate(text):
        reached += len(fold(character))
        if reached > place:
            return index
    return len(text)


def snippet(text: str, folded_query: str, around: int = 80) -> str:
    """A piece of `text` around the first place where the query stands; its beginning if nowhere."""
    place = find(text, folded_query)
    start, end = place or (0, min(len(text), around))
    start, end = max(0, start - around), min(len(text), end + around)
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
