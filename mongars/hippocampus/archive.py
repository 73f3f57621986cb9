"""Reading a large file of conversations one by one: JSON, or JSON in a zip file.

Only one conversation is in memory at a time. What a zip file unpacks to is bounded before and while
it is read.
"""

import codecs
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

from mongars.errors import Invalid, TooLarge

PIECE: Final = 64 * 1024
DIGITS: Final = 40
MOST_MEMBERS: Final = 10_000
DIRECTORY_BYTES: Final = 16 * 1024**2
RATIO: Final = 200
RATIO_FROM: Final = 16 * 1024**2
"""Members that unpack to less may be packed as tightly as they like, in bytes."""
KINDS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SPACE = re.compile(r"[ \t\n\r]*")
_ENCRYPTED: Final = 1
_UNREADABLE: Final = object()
"""Stands for what JSON has no value for (NaN, endless numbers): no field takes it."""


def _whole(digits: str) -> Any:
    return int(digits) if len(digits) <= DIGITS else _UNREADABLE


_DECODER = json.JSONDecoder(parse_constant=lambda _: _UNREADABLE, parse_int=_whole)


class Window:
    """A text that comes in pieces, of which a part is in memory."""

    def __init__(self, source: IO[bytes], most: int, told: Callable[[int], None]) -> None:
        self._source = source
        self._most = most
        self._told = told
        self._bytes = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._place = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space, without taking it; empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._place)
            self._place = space.end() if space else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if self._ended:
                return ""
            self._more(PIECE)

    def take(self, expected: str) -> None:
        """Go behind the next character. Raises `Invalid` when it is another one."""
        found = self.peek()
        if found != expected:
            raise Invalid(f"the file is not JSON: {expected!r} is missing")
        self._place += 1

    def value(self) -> Any:
        """The next JSON value. Raises `Invalid`, and `TooLarge` over the size of one entry."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except RecursionError as error:
                raise Invalid("the file is nested too deeply") from error
            except json.JSONDecodeError as error:
                if self._ended:
                    raise Invalid(f"the file is not JSON: {error.msg}") from error
            else:
                if end < len(self._text) or self._ended:
                    self._place = end
                    return value
            held = len(self._text) - self._place
            if held > self._most:
                raise TooLarge(f"one conversation is larger than {self._most:,} characters")
            self._more(max(PIECE, held))

    def _more(self, size: int) -> None:
        piece = self._source.read(size)
        self._told(len(piece))
        self._ended = not piece
        try:
            decoded = self._bytes.decode(piece, final=self._ended)
        except UnicodeDecodeError as error:
            raise Invalid("the file is not UTF-8") from error
        self._text = self._text[self._place :] + decoded
        self._place = 0


def conversations_in(window: Window, others: dict[str, Any]) -> Iterator[Any]:
    """Each conversation of a JSON text: of a list, or of the field `conversations` of an object.

    The object's other fields are left in `others`.
    """
    if window.peek() == "[":
        yield from _elements(window, "[", "]")
        return
    found = False
    for name in _names(window):
        if name == "conversations" and window.peek() == "[":
            found = True
            yield from _elements(window, "[", "]")
        else:
            others[str(name)] = window.value()
    if not found:
        raise Invalid("the file holds no list of conversations")


def _elements(window: Window, opening: str, closing: str) -> Iterator[Any]:
    window.take(opening)
    if window.peek() == closing:
        window.take(closing)
        return
    while True:
        yield window.value()
        if window.peek() == closing:
            window.take(closing)
            return
        window.take(",")


def _names(window: Window) -> Iterator[Any]:
    window.take("{")
    if window.peek() == "}":
        return
    while True:
        name = window.value()
        window.take(":")
        yield name
        if window.peek() == "}":
            window.take("}")
            return
        window.take(",")


class Archive:
    """A file of conversations, and how far it is read."""

    def __init__(self, file: IO[bytes], *, unpacked: int, entry: int) -> None:
        self.total = 0
        self.done = 0
        self.others: dict[str, Any] = {}
        self._file = file
        self._unpacked = unpacked
        self._entry = entry

    def __iter__(self) -> Iterator[Any]:
        """Each conversation as JSON gave it. Raises `Invalid` where the file cannot be read on."""
        start = self._file.read(4)
        self._file.seek(0)
        if start.startswith(b"PK"):
            yield from self._zipped()
            return
        self.total = self._file.seek(0, 2)
        self._file.seek(0)
        yield from conversations_in(Window(self._file, self._entry, self._read), self.others)

    def _read(self, size: int) -> None:
        self.done += size

    def _zipped(self) -> Iterator[Any]:
        try:
            _check_directory(self._file)
            with zipfile.ZipFile(self._file) as archive:
                members = self._members(archive)
                self.total = sum(member.file_size for member in members)
                for member in members:
                    with archive.open(member) as content:
                        window = Window(content, self._entry, self._read)
                        yield from conversations_in(window, self.others)
        except (zipfile.BadZipFile, EOFError, zlib.error, struct.error) as error:
            raise Invalid("the zip file is damaged") from error

    def _members(self, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
        members = [one for one in archive.infolist() if _is_wanted(one.filename)]
        if not members:
            raise Invalid("the zip file holds no .json file")
        if len(members) > MOST_MEMBERS:
            raise TooLarge(f"the zip file holds more than {MOST_MEMBERS:,} files")
        for one in members:
            if one.flag_bits & _ENCRYPTED or one.compress_type not in KINDS:
                raise Invalid("the zip file is encrypted or packed in an unusual way")
            if one.file_size > RATIO_FROM and one.file_size > RATIO * one.compress_size:
                raise TooLarge("the zip file unpacks to far more than texts do")
        if sum(one.file_size for one in members) > self._unpacked:
            raise TooLarge(f"the zip file unpacks to more than {self._unpacked:,} bytes")
        return members


def _is_wanted(name: str) -> bool:
    hidden = name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")
    return name.lower().endswith(".json") and not hidden


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a list of members that would not fit into memory (APPNOTE.TXT, 4.3.16)."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 22 - 65535))
    tail = file.read()
    file.seek(0)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0:
        raise Invalid("the zip file is damaged")
    if tail[max(0, place - 20) : place].startswith(b"PK\x06\x07"):
        raise Invalid("the zip file is of the kind for very large files")
    (directory_bytes,) = struct.unpack_from("<I", tail, place + 12)
    if directory_bytes > DIRECTORY_BYTES:
        raise TooLarge("the zip file holds too many files")
