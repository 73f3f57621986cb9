import pytest

from mongars.auth import names
from mongars.errors import Invalid


@pytest.mark.parametrize("other", ["ALICE", "Ａlice", "aliCe"])
def test_names_that_look_alike_are_one(other: str) -> None:
    assert names.fold(other) == names.fold("alice")


@pytest.mark.parametrize("name", ["alice", "Zoë", "a", "jean-luc.picard", "x@example.org", "李雷"])
def test_names_people_have_are_taken(name: str) -> None:
    assert names.checked(f" {name} ") == name


@pytest.mark.parametrize("name", ["", " ", ".", "a b", "-x", "x" * 65, "a\x00b", "a/b", "a\u202eb"])
def test_names_nobody_could_tell_apart_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        names.checked(name)
