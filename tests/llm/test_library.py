import stat
from pathlib import Path

import orjson
import pytest

from mongars.errors import Conflict, Invalid, Missing, Unavailable
from mongars.ids import now
from mongars.llm.library import BUILT_IN, Library, Provenance, built_in_path, partial_paths
from mongars.testing.hub import tiny_gguf


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path)
    library.prepare()
    return library


def add(library: Library, name: str) -> Path:
    path = library.path_of(name)
    path.write_bytes(tiny_gguf())
    library.record(name, Provenance("owner/repo", "ab" * 32, 4096, True, "mit", now()))
    return path


def test_the_built_in_model_is_always_there(library):
    (starter,) = library.models()
    assert starter.built_in
    assert starter.name == BUILT_IN
    assert starter.path == built_in_path()
    assert starter.size_bytes > 90_000_000


def test_a_downloaded_model_is_listed_with_where_it_came_from(library):
    add(library, "Mine-Q4")
    model = library.find("embedded/Mine-Q4")
    assert (model.source, model.licence, model.verified) == ("owner/repo", "mit", True)
    assert model.card.full_name == "embedded/Mine-Q4"
    assert model.card.digest == "ab" * 32


def test_a_file_somebody_put_there_is_listed_as_of_unknown_origin(library):
    (library.folder / "found.gguf").write_bytes(tiny_gguf())
    model = library.find("found")
    assert (model.source, model.licence, model.verified) == (None, None, False)


def test_a_broken_note_of_origin_does_not_hide_the_model(library):
    add(library, "Mine")
    (library.folder / "Mine.json").write_bytes(b"{")
    assert library.find("Mine").source is None


def test_an_unknown_model_is_missing(library):
    with pytest.raises(Missing, match="models pull"):
        library.find("nothing")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\x00b", "x" * 200])
def test_a_name_cannot_lead_out_of_the_folder(library, name):
    with pytest.raises(Invalid):
        library.path_of(name)


def test_using_a_model_writes_its_full_name_for_the_owner_only(library, tmp_path):
    add(library, "Mine")
    library.use("embedded/Mine")
    chosen = tmp_path / "model.json"
    assert orjson.loads(chosen.read_bytes()) == {"model": "embedded/Mine"}
    assert stat.S_IMODE(chosen.stat().st_mode) == 0o600
    assert library.in_use() == "embedded/Mine"
    assert list(tmp_path.glob(".model*")) == []


def test_auto_leaves_the_choice_to_what_answers(library):
    library.use(f"embedded/{BUILT_IN}")
    library.use("auto")
    assert library.in_use() is None


def test_a_model_that_is_not_here_cannot_be_used(library):
    with pytest.raises(Missing):
        library.use("embedded/nothing")
    assert library.in_use() is None


def test_a_name_without_its_backend_cannot_be_used(library):
    with pytest.raises(Invalid):
        library.use("Mine")


def test_an_unreadable_choice_is_said_instead_of_forgotten(library, tmp_path):
    (tmp_path / "model.json").write_bytes(b"not json")
    with pytest.raises(Unavailable, match=r"model\.json"):
        library.in_use()


def test_removing_takes_the_file_and_its_note(library):
    path = add(library, "Mine")
    assert library.remove("embedded/Mine") > 4096
    assert not path.exists()
    assert list(library.folder.iterdir()) == []


def test_removing_takes_what_a_broken_off_download_left(library):
    part, about = partial_paths(library.path_of("Half"))
    part.write_bytes(b"GGUF")
    about.write_bytes(b"{}")
    library.remove("Half")
    assert list(library.folder.iterdir()) == []


def test_the_model_in_use_is_not_removed(library):
    path = add(library, "Mine")
    library.use("embedded/Mine")
    with pytest.raises(Conflict, match="in use"):
        library.remove("Mine")
    assert path.exists()


def test_a_model_that_answers_now_is_not_removed(library):
    path = add(library, "Mine")
    with pytest.raises(Conflict):
        library.remove("Mine", in_use=["embedded/Mine"])
    assert path.exists()


def test_the_built_in_model_is_not_removed(library):
    with pytest.raises(Conflict):
        library.remove(BUILT_IN)


def test_removing_what_is_not_there_is_missing(library):
    with pytest.raises(Missing):
        library.remove("nothing")
