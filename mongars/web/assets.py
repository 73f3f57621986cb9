"""Style, script and pictures: read once, compressed once, named by what is in them."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.types import Receive, Scope, Send

DIRECTORY = Path(__file__).parent / "static"
PREFIX = "/static/"
KINDS = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".webmanifest": b"application/manifest+json",
}
FOREVER = b"public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """One file as it is sent."""

    kind: bytes
    plain: bytes
    packed: bytes
    digest: str


@cache
def asset(name: str) -> Asset:
    """The asset of this file name."""
    path = DIRECTORY / name
    plain = path.read_bytes()
    digest = hashlib.sha256(plain).hexdigest()[:12]
    return Asset(KINDS[path.suffix], plain, gzip.compress(plain, 9, mtime=0), digest)


@cache
def names() -> frozenset[str]:
    """Every asset there is."""
    return frozenset(path.name for path in DIRECTORY.iterdir() if path.suffix in KINDS)


def address(name: str, root: str = "") -> str:
    """The address of an asset; it changes when the asset does, so that it can be kept for ever."""
    stem, dot, suffix = name.rpartition(".")
    return f"{root}{PREFIX}{stem}.{asset(name).digest}{dot}{suffix}"


def find(path: str) -> Asset | None:
    """The asset at an address, whatever digest it was asked with."""
    stem, _, suffix = path.removeprefix(PREFIX).rpartition(".")
    name = f"{stem.rpartition('.')[0]}.{suffix}"
    return asset(name) if name in names() else None


async def serve(found: Asset, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an asset, packed where the browser unpacks."""
    asked = dict(scope["headers"])
    tag = f'"{found.digest}"'.encode()
    headers = [
        (b"content-type", found.kind),
        (b"cache-control", FOREVER),
        (b"etag", tag),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]
    status, body = 200, found.plain
    if asked.get(b"if-none-match") == tag:
        status, body = 304, b""
    elif b"gzip" in asked.get(b"accept-encoding", b""):
        body = found.packed
        headers.append((b"content-encoding", b"gzip"))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
