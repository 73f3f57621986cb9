"""Backups hold everything, are checked, and never harm what is there."""

import io
import json
import sqlite3
import tarfile
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mongars.cli import archive
from mongars.errors import Conflict, Invalid

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a database in WAL mode, a key, a model and a cache."""
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    with closing(sqlite3.connect(made / "mongars.db")) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE messages (text TEXT)")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('0004')")
        database.execute("INSERT INTO messages VALUES ('what was said')")
    (made / "secret-key").write_text("key")
    (made / "server.json").write_text("{}")
    for name in ("models", "cache"):
        (made / name).mkdir()
        (made / name / "large.bin").write_bytes(b"x" * 100)
    return made


def said(data: Path) -> list[str]:
    """All messages of the database there."""
    with closing(sqlite3.connect(data / "mongars.db")) as database:
        return [row[0] for row in database.execute("SELECT text FROM messages")]


def save(data: Path, name: str = "saved.tar") -> Path:
    """A backup of it."""
    to = data.parent / name
    archive.write(data, to, version="0.1.0", at=AT)
    return to


def test_a_backup_brings_back_what_was_said_and_keeps_what_was_there_aside(data: Path) -> None:
    saved = save(data)
    with closing(sqlite3.connect(data / "mongars.db")) as database, database:
        database.execute("INSERT INTO messages VALUES ('later')")
    aside = archive.unpack(saved, data, at=AT)
    assert said(data) == ["what was said"]
    assert (data / "secret-key").read_text() == "key"
    assert (data / "models" / "large.bin").exists()
    assert aside is not None
    assert said(aside) == ["what was said", "later"]


def test_a_backup_comes_back_where_nothing_was(data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "new" / "data"
    assert archive.unpack(save(data), elsewhere, at=AT) is None
    assert said(elsewhere) == ["what was said"]
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in elsewhere.iterdir()} == {0o600}


def test_models_caches_and_what_belongs_to_a_process_stay_out(data: Path) -> None:
    saved = save(data)
    assert saved.stat().st_mode & 0o777 == 0o600
    with tarfile.open(saved) as tar:
        assert sorted(tar.getnames()) == ["manifest.json", "mongars.db", "secret-key"]
    assert archive.check(saved)["revision"] == "0004"


def test_a_backup_of_a_database_that_is_being_written_is_whole(data: Path) -> None:
    stop = threading.Event()
    wrote = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(data / "mongars.db")) as database:
            while not stop.is_set():
                with database:
                    database.executemany(
                        "INSERT INTO messages VALUES (?)", [("pair-a",), ("pair-b",)]
                    )
                wrote.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert wrote.wait(10)
        saved = save(data)
    finally:
        stop.set()
        writer.join()
    archive.unpack(saved, data, at=AT)
    texts = said(data)
    assert texts.count("pair-a") == texts.count("pair-b") > 0


@pytest.mark.parametrize("where", ["in the middle", "at the end"])
def test_a_damaged_backup_is_refused_and_nothing_is_touched(data: Path, where: str) -> None:
    saved = save(data)
    content = bytearray(saved.read_bytes())
    if where == "in the middle":
        at = content.index(b"what was said")
        content[at] ^= 1
    else:
        content = content[: len(content) // 2]
    saved.write_bytes(content)
    before = sorted(data.iterdir())
    with pytest.raises(Invalid):
        archive.check(saved)
    with pytest.raises(Invalid):
        archive.unpack(saved, data, at=AT)
    assert sorted(data.iterdir()) == before
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "saved.tar"]


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "unlisted"])
def test_a_file_that_the_manifest_or_the_directory_does_not_allow_is_refused(
    data: Path, name: str
) -> None:
    saved = save(data)
    with tarfile.open(saved, "a") as tar:
        evil = tarfile.TarInfo(name)
        evil.size = 1
        tar.addfile(evil, io.BytesIO(b"x"))
    with pytest.raises(Invalid, match=r"evil|unlisted"):
        archive.check(saved)


def test_a_link_in_a_backup_is_refused(data: Path) -> None:
    saved = save(data)
    manifest = archive.check(saved)
    manifest["files"]["link"] = {"bytes": 0, "sha256": "0" * 64}
    with tarfile.open(saved, "w") as tar:
        written = json.dumps(manifest).encode()
        head = tarfile.TarInfo("manifest.json")
        head.size = len(written)
        tar.addfile(head, io.BytesIO(written))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(Invalid):
        archive.check(saved)


def test_something_else_is_no_backup(tmp_path: Path) -> None:
    other = tmp_path / "letter.txt"
    other.write_text("dear friend")
    with pytest.raises(Invalid, match=r"letter\.txt"):
        archive.check(other)
    with pytest.raises(Invalid):
        archive.check(tmp_path / "missing.tar")


def test_a_file_is_never_overwritten_and_nothing_is_left_behind_when_it_fails(data: Path) -> None:
    saved = save(data)
    with pytest.raises(Conflict):
        save(data)
    with pytest.raises(Invalid, match="nothing to back up"):
        archive.write(data.parent / "empty", data.parent / "x.tar", version="0", at=AT)
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", saved.name]


def test_a_damaged_database_is_not_saved_as_if_it_were_well(data: Path) -> None:
    with closing(sqlite3.connect(data / "mongars.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")
    content = bytearray((data / "mongars.db").read_bytes())
    content[4096:8192] = b"\xff" * 4096
    (data / "mongars.db").write_bytes(content)
    with pytest.raises(Invalid, match="damaged"):
        save(data)
