"""Backups of a data directory: one tar file with a manifest of checksums, and the way back.

The SQLite database is copied with its own online backup, so a running server may go on writing.
What can be fetched or made again (models, caches, sockets) stays out. A backup holds everything
people said and the keys of their sessions: it is readable by its owner only.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from mongars.errors import Conflict, Invalid

MANIFEST = "manifest.json"
FORMAT = "mongars-backup-1"
DATABASE = "mongars.db"
LEFT_OUT_DIRECTORIES = frozenset({"models", "cache", "run", "backups"})
LEFT_OUT_NAMES = frozenset({"server.json", f"{DATABASE}-wal", f"{DATABASE}-shm"})


def write(data_dir: Path, to: Path, *, version: str, at: datetime) -> dict[str, Any]:
    """Write a backup of `data_dir` to the file `to` and read it back; returns its manifest.

    Raises `Invalid` when there is nothing to back up, `Conflict` when `to` is there already.
    """
    if not (data_dir / DATABASE).is_file():
        raise Invalid(f"There is no database in {data_dir}; nothing to back up.")
    if to.exists():
        raise Conflict(f"{to} is there already; name another file.")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".backup-") as work:
        snapshot = Path(work, DATABASE)
        _snapshot(data_dir / DATABASE, snapshot)
        files = {DATABASE: snapshot, **dict(_others(data_dir, to))}
        manifest = {
            "format": FORMAT,
            "version": version,
            "at": at.isoformat(),
            "revision": _revision(snapshot),
            "files": {
                name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
                for name, path in sorted(files.items())
            },
        }
        unfinished = Path(work, "backup.tar")
        _pack(unfinished, manifest, files)
        check(unfinished)
        unfinished.replace(to)
    return manifest


def check(file: Path) -> dict[str, Any]:
    """Read a whole backup and compare every checksum; returns its manifest. Raises `Invalid`."""
    try:
        with tarfile.open(file) as tar:
            manifest = _manifest(tar)
            expected = dict(manifest["files"])
            for member in tar:
                if member.name == MANIFEST:
                    continue
                told = expected.pop(member.name, None)
                content = tar.extractfile(member) if member.isreg() else None
                if told is None or content is None or not _safe(member.name):
                    raise Invalid(f"{file} is no backup of monGARS: it holds {member.name!r}.")
                if _sha256_of(content) != told["sha256"]:
                    raise Invalid(f"{file} is damaged: {member.name} is not what was saved.")
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0].rstrip(":")  # tarfile tells every format it tried
        raise Invalid(f"{file} cannot be read as a backup of monGARS: {why}") from error
    if expected:
        raise Invalid(f"{file} is damaged: {', '.join(sorted(expected))} is missing.")
    return manifest


def unpack(file: Path, data_dir: Path, *, at: datetime) -> Path | None:
    """Put a checked backup in the place of `data_dir`; returns where the old one lies now.

    Everything is written beside it first and checked again; the exchange is two renames.
    """
    manifest = check(file)
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=data_dir.parent, prefix=f".{data_dir.name}-restoring-"))
    try:
        _write_out(file, manifest, fresh)
        aside = data_dir.with_name(f"{data_dir.name}-before-restore-{at:%Y%m%dT%H%M%SZ}")
        was_there = data_dir.exists()
        if was_there:
            data_dir.rename(aside)
        try:
            fresh.rename(data_dir)
        except OSError:
            if was_there:
                aside.rename(data_dir)
            raise
        if (aside / "models").is_dir():  # large, and in no backup: they stay in use
            (aside / "models").rename(data_dir / "models")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return aside if was_there else None


def _write_out(file: Path, manifest: dict[str, Any], to: Path) -> None:
    with tarfile.open(file) as tar:
        for name, told in manifest["files"].items():
            content = tar.extractfile(name)
            assert content is not None, "check() has seen every file"
            target = to / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(content, out)
            target.chmod(0o600)
            if _sha256(target) != told["sha256"]:
                raise Invalid(f"{name} was not written as it was saved; is the disk full?")
    _sound(to / DATABASE)


def _snapshot(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    _sound(target)
    target.chmod(0o600)


def _sound(database: Path) -> None:
    with closing(sqlite3.connect(database)) as opened:
        try:
            said = opened.execute("PRAGMA integrity_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise Invalid(f"The database is damaged: {error}") from error
    if said != "ok":
        raise Invalid(f"The database is damaged: {said}")


def _revision(database: Path) -> str | None:
    with closing(sqlite3.connect(database)) as opened:
        try:
            row = opened.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return str(row[0]) if row else None


def _others(data_dir: Path, to: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(data_dir.rglob("*")):
        name = path.relative_to(data_dir)
        if name.parts[0] in LEFT_OUT_DIRECTORIES or name.parts[-1] in LEFT_OUT_NAMES:
            continue
        ours = path == to or any(part.startswith(".backup-") for part in name.parts)
        if not ours and path.is_file() and not path.is_symlink() and str(name) != DATABASE:
            yield name.as_posix(), path


def _pack(file: Path, manifest: dict[str, Any], files: dict[str, Path]) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out, tarfile.open(fileobj=out, mode="w") as tar:
        written = Path(file.parent, MANIFEST)
        written.write_text(json.dumps(manifest, indent=2))
        tar.add(written, MANIFEST)
        for name, path in sorted(files.items()):
            tar.add(path, name, recursive=False)
        out.flush()
        os.fsync(out.fileno())


def _manifest(tar: tarfile.TarFile) -> dict[str, Any]:
    content = tar.extractfile(MANIFEST)
    manifest = json.load(content) if content else None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError("its manifest is not ours")
    return manifest


def _safe(name: str) -> bool:
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return _sha256_of(content)


def _sha256_of(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := content.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
