"""The few facts of a GGUF file's header that are needed before it is loaded."""

import struct
from pathlib import Path
from typing import BinaryIO

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_WHOLE = {2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_MOST_BYTES = 64 * 2**20


def trained_context(path: Path) -> int | None:
    """How many tokens the model was trained to read; `None` where the file does not say."""
    try:
        with path.open("rb") as file:
            return _context(file)
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def _context(file: BinaryIO) -> int | None:
    if file.read(4) != b"GGUF":
        return None
    _version, _tensors, pairs = struct.unpack("<IQQ", file.read(20))
    for _ in range(min(pairs, 10_000)):
        key = file.read(_length(file)).decode()
        (kind,) = struct.unpack("<I", file.read(4))
        if key.endswith(".context_length") and kind in _WHOLE:
            (tokens,) = struct.unpack(_WHOLE[kind], file.read(_SIZES[kind]))
            return int(tokens) or None
        _skip(file, kind)
    return None


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        file.seek(_length(file), 1)
    elif kind == _ARRAY:
        items, count = struct.unpack("<IQ", file.read(12))
        if items in _SIZES:
            file.seek(_SIZES[items] * count, 1)
        else:
            for _ in range(count):
                _skip(file, items)
    else:
        file.seek(_SIZES.get(kind, 0), 1)


def _length(file: BinaryIO) -> int:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MOST_BYTES:
        raise struct.error("a length that no header has")
    return int(length)
