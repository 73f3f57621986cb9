"""Searching without case and accents."""

from hypothesis import given
from hypothesis import strategies as st

from mongars.hippocampus.folding import find, fold, snippet


def test_case_and_accents_do_not_count() -> None:
    assert fold("Élève ÇA Straße ﬁn") == fold("eleve ca STRASSE FIN")


@given(st.text(), st.text())
def test_a_part_of_a_text_folds_to_a_part_of_its_folding(before: str, after: str) -> None:
    assert fold(before) + fold(after) == fold(before + after)
    assert fold(fold(before)) == fold(before)


@given(st.text(), st.text(min_size=1, max_size=5), st.text())
def test_a_part_is_found_where_it_stands(before: str, part: str, after: str) -> None:
    text, query = before + part + after, fold(part)
    if not query:
        return
    place = find(text, query)
    assert place is not None
    assert query in fold(text[place[0] : place[1]])


def test_a_snippet_shows_what_was_found_and_where_it_was_cut() -> None:
    text = "x" * 200 + " Café noir " + "y" * 200
    cut = snippet(text, fold("CAFE"), around=10)
    assert cut == "…" + "x" * 9 + " Café noir yyyy…"
    assert snippet("short", "nowhere") == "short"
