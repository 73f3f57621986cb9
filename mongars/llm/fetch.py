"""Bringing one large file here: resumed where it stopped, checked, and in place all at once.

While it is under way the bytes are in `.NAME.part` beside the target, with `.NAME.part.json` to
say what they are of. A cut connection is tried again from there at once, a stopped or cancelled
download by the next call. Requests follow RFC 9110, section 14 (ranges, `If-Range`).
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
import orjson
from yarl import URL

from mongars.errors import Conflict, Fault, Forbidden, Invalid, Missing, Unavailable
from mongars.llm.library import partial_paths, write_json

Progress = Callable[[int, int | None], Awaitable[None]]
"""Told the bytes that are here and the bytes of the whole, where that is known."""

CHUNK_BYTES = 1024 * 1024
_REPORT_EVERY_S = 0.2
_CHECK_DISK_EVERY_BYTES = 64 * CHUNK_BYTES


def free_bytes(folder: Path) -> int:
    """What is free on the disk of this folder."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Patience:
    """How long a download may take at its parts, in seconds."""

    connect_s: float = 20.0
    silence_s: float = 60.0
    """Without a byte for so long, the connection counts as cut."""
    retries_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0)
    """Waits between tries that bring nothing; a try that brought bytes starts them anew."""


@dataclass(frozen=True)
class Wanted:
    """A file to bring here. `size_bytes` and `sha256` where somebody told them."""

    url: str
    target: Path
    size_bytes: int | None = None
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    magic: bytes = b"GGUF"
    """The bytes it must begin with."""


@dataclass(frozen=True)
class Fetched:
    """A file that is here now, under its partial name until `put_in_place` is called."""

    partial: Path
    target: Path
    size_bytes: int
    sha256: str

    def put_in_place(self) -> None:
        """Give it its name; whoever looks sees no file or the whole file."""
        self.partial.replace(self.target)
        partial_paths(self.target)[1].unlink(missing_ok=True)
        folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _Partial:
    """The bytes that are here so far; one holder at a time over all processes."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.path, self._about = partial_paths(wanted.target)
        self.size = 0
        self.etag: str | None = None
        self._hash = hashlib.sha256()
        self._closing = threading.Lock()

    def open(self) -> Self:
        """Take what an earlier try left, if it is of the same file; reads all of it for the hash."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise self._taken() from error
        if not self._is_there():
            self._file.close()
            raise self._taken()
        if self._same_as_before():
            while chunk := self._file.read(CHUNK_BYTES):
                self._hash.update(chunk)
                self.size += len(chunk)
        else:
            self.restart()
        return self

    def _is_there(self) -> bool:
        """Whether the locked file still has its name: whoever held it before may have renamed it."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _taken(self) -> Conflict:
        return Conflict(f"{self._wanted.target.stem} is already being downloaded.")

    def _same_as_before(self) -> bool:
        try:
            about = orjson.loads(self._about.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return False
        self.etag = about.get("etag")
        if self._wanted.sha256 is not None:
            return bool(about.get("sha256") == self._wanted.sha256)
        return about.get("url") == self._wanted.url and self.etag is not None

    def restart(self) -> None:
        """Begin again from the first byte."""
        self._file.seek(0)
        self._file.truncate()
        self.size, self.etag, self._hash = 0, None, hashlib.sha256()

    def note(self, etag: str | None) -> None:
        """Keep what these bytes are of, for the next try."""
        self.etag = etag if etag and not etag.startswith("W/") else None
        about = {"url": self._wanted.url, "sha256": self._wanted.sha256, "etag": self.etag}
        write_json(self._about, about)

    def write(self, chunk: bytes) -> None:
        """Append; safe against being closed meanwhile by a cancelled download."""
        with self._closing:
            if self._file.closed:
                return
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def begins_right(self) -> bool:
        """Whether the first bytes are those of the wanted kind of file, as far as they are here."""
        magic = self._wanted.magic
        return os.pread(self._file.fileno(), len(magic), 0) == magic[: self.size]

    def finish(self) -> Fetched:
        """All is here: on the disk for certain."""
        os.fsync(self._file.fileno())
        return Fetched(self.path, self._wanted.target, self.size, self._hash.hexdigest())

    def discard(self) -> None:
        """What is here is worth nothing."""
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go; what is here stays for the next try."""
        with self._closing:
            self._file.close()
        if self.size == 0:
            self.discard()


class Fetcher:
    """Downloads over one HTTP session."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        reserve_bytes: int,
        free: Callable[[Path], int] = free_bytes,
        patience: Patience | None = None,
    ) -> None:
        self._http = http
        self._reserve_bytes = reserve_bytes
        self._free = free
        self._patience = patience or Patience()

    @asynccontextmanager
    async def fetch(self, wanted: Wanted, progress: Progress) -> AsyncIterator[Fetched]:
        """Bring the file here; the caller puts it in place inside the block.

        Faults: `Unavailable` (`disk-full`, or the server stays away: call again to go on), `Invalid`
        (`not-a-model`, `checksum-mismatch`), `Missing`, `Forbidden`, `Conflict` (under way already).
        """
        try:
            partial = await asyncio.to_thread(_Partial(wanted).open)
        except OSError as error:
            raise _disk_fault(error) from error
        try:
            await self._persist(partial, wanted, progress)
            fetched = await asyncio.to_thread(partial.finish)
            _check(fetched, wanted, partial)
            yield fetched
        except OSError as error:
            raise _disk_fault(error) from error
        finally:
            partial.close()

    async def size_of(self, url: str) -> int | None:
        """The size in bytes that the server tells, if it does; faults as in `fetch`."""
        try:
            async with self._http.head(
                url,
                allow_redirects=True,
                headers={"Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=self._patience.connect_s),
            ) as response:
                if response.status in (405, 501):
                    return None
                _raise_for(response)
                length = response.headers.get("Content-Length", "")
                return int(length) if length.isdigit() else None
        except aiohttp.InvalidURL as error:
            raise _bad_address(error) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{_host(url)} does not answer: {_why(error)}.") from error

    async def _persist(self, partial: _Partial, wanted: Wanted, progress: Progress) -> None:
        """Try until all is here, giving up when several tries in a row bring nothing."""
        waits = iter(self._patience.retries_s)
        while True:
            before = partial.size
            try:
                return await self._once(partial, wanted, progress)
            except aiohttp.InvalidURL as error:
                raise _bad_address(error) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                if partial.size > before:
                    waits = iter(self._patience.retries_s)
                wait_s = next(waits, None)
                if wait_s is None:
                    raise Unavailable(
                        f"The download from {_host(wanted.url)} broke off: {_why(error)}. "
                        "What came is kept; the same command goes on from there."
                    ) from error
                await asyncio.sleep(wait_s)

    async def _once(self, partial: _Partial, wanted: Wanted, progress: Progress) -> None:
        if partial.size and partial.size == wanted.size_bytes:
            return
        headers = {**wanted.headers, "Accept-Encoding": "identity"}
        if partial.size:
            headers["Range"] = f"bytes={partial.size}-"
            if wanted.sha256 is None and partial.etag is not None:
                headers["If-Range"] = partial.etag
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=self._patience.connect_s,
            sock_read=self._patience.silence_s,
        )
        async with self._http.get(wanted.url, headers=headers, timeout=timeout) as response:
            if response.status == 416:
                partial.restart()
                raise aiohttp.ClientPayloadError("what was kept does not fit the file")
            _raise_for(response)
            if not _goes_on(response, partial.size):
                partial.restart()
            await asyncio.to_thread(partial.note, response.headers.get("ETag"))
            total = wanted.size_bytes or _total(response, partial.size)
            self._check_disk(wanted.target.parent, (total or partial.size) - partial.size)
            await self._receive(response, partial, total, progress)

    async def _receive(
        self,
        response: aiohttp.ClientResponse,
        partial: _Partial,
        total: int | None,
        progress: Progress,
    ) -> None:
        told_at = 0.0
        checked_at = partial.size
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            await asyncio.to_thread(partial.write, chunk)
            if not partial.begins_right():
                partial.discard()
                raise _not_a_model(response)
            if total is not None and partial.size > total:
                partial.discard()
                raise Invalid(f"{_host(str(response.url))} sends more than the file it announced.")
            if partial.size - checked_at >= _CHECK_DISK_EVERY_BYTES:
                checked_at = partial.size
                self._check_disk(partial.path.parent, 0)
            if time.monotonic() - told_at >= _REPORT_EVERY_S:
                told_at = time.monotonic()
                await progress(partial.size, total)
        if total is not None and partial.size < total:
            raise aiohttp.ClientPayloadError(f"{total - partial.size} bytes are missing")
        await progress(partial.size, partial.size)

    def _check_disk(self, folder: Path, missing_bytes: int) -> None:
        free = self._free(folder)
        if missing_bytes + self._reserve_bytes > free:
            raise Unavailable(
                f"The disk is too full: {in_gb(missing_bytes)} are still to come, "
                f"{in_gb(free)} are free, and {in_gb(self._reserve_bytes)} of them stay free. "
                "Make room and run the same command again.",
                slug="disk-full",
            )


def in_gb(size_bytes: int) -> str:
    """A size for people: `2.5 GB`, `98 MB`."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def _check(fetched: Fetched, wanted: Wanted, partial: _Partial) -> None:
    if fetched.size_bytes < len(wanted.magic):
        partial.discard()
        raise Invalid("What came is too short to be a model.", slug="not-a-model")
    if wanted.sha256 is not None and fetched.sha256 != wanted.sha256.lower():
        partial.discard()
        raise Invalid(
            f"The checksum is wrong: expected {wanted.sha256}, got {fetched.sha256}. "
            "The file was thrown away.",
            slug="checksum-mismatch",
        )


def _goes_on(response: aiohttp.ClientResponse, size: int) -> bool:
    """Whether what comes begins right after the bytes that are here."""
    content_range = response.headers.get("Content-Range", "")
    return response.status == 206 and content_range.startswith(f"bytes {size}-")


def _total(response: aiohttp.ClientResponse, before: int) -> int | None:
    length = response.content_length
    return None if length is None else length + before


def _raise_for(response: aiohttp.ClientResponse) -> None:
    """Translate a status that trying again does not change; others are errors of the moment."""
    host = _host(str(response.url))
    if response.status in (401, 403):
        raise Forbidden(
            f"{host} refuses this file ({response.status}): it asks for an account or for its "
            "terms to be accepted there."
        )
    if response.status in (404, 410):
        raise Missing(f"{host} has no such file.")
    if response.status >= 400:
        response.raise_for_status()


def _not_a_model(response: aiohttp.ClientResponse) -> Invalid:
    return Invalid(
        f"This is not a GGUF model file ({_host(str(response.url))} sends "
        f"{response.content_type}). Give the address of the .gguf file itself.",
        slug="not-a-model",
    )


def _bad_address(error: BaseException) -> Invalid:
    return Invalid(f"This is not an address of http or https that can be read: {error}.")


def _disk_fault(error: OSError) -> Fault:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            "The disk is full. Make room and run the same command again.", slug="disk-full"
        )
    return Unavailable(f"The folder of the models cannot be written: {error.strerror or error}.")


def _host(url: str) -> str:
    """The server's name alone: addresses may carry secrets."""
    return URL(url).host or "the server"


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"it answered {error.status}"
    return str(error) or type(error).__name__
