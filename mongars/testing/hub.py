"""A model hub on a real socket: as much of its HTTP protocol as huggingface_hub needs.

It lists a repository (`/api/models/OWNER/NAME`), tells what a file is (`HEAD …/resolve/…` with
`X-Repo-Commit`, `X-Linked-Etag`, `X-Linked-Size`), and sends it from another path after a
redirect, with `Range`, `If-Range` and an `ETag`. Files lie under `/files/…` too, for downloads by
URL. What should go wrong is set on `Trouble`.
"""

import asyncio
import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The commit at the head of every repository here."""


def tiny_gguf(size_bytes: int = 4096) -> bytes:
    """Bytes that begin as a GGUF file does (version 3, no tensors, no metadata); not a model."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    filling = hashlib.shake_128(b"weights").digest(max(0, size_bytes - len(head)))
    return head + filling


@dataclass
class HubRepository:
    """A repository of models: its files and what its card says."""

    files: dict[str, bytes | Path]
    licence: str | None = "apache-2.0"
    gated: bool = False


@dataclass
class Trouble:
    """What should go wrong. Everything off by default."""

    cut_after_bytes: int | None = None
    """Bytes of one answer before the connection is cut."""
    cuts: int = 1
    """How many answers are cut."""
    wait_after_bytes: int | None = None
    """Bytes of one answer before it stands still."""
    ignore_range: bool = False
    """Answer 200 with the whole file to a `Range`."""
    spoil: bool = False
    """Send another last byte than the checksum was made of."""
    no_length: bool = False
    """Do not say how long the file is."""


@dataclass
class HubServer:
    """The hub; `async with HubServer(repositories) as hub`, then `hub.url`."""

    repositories: dict[str, HubRepository] = field(default_factory=dict)
    files: dict[str, bytes | Path] = field(default_factory=dict)
    """Files for downloads by URL: name to content."""
    trouble: Trouble = field(default_factory=Trouble)
    ranges: list[str | None] = field(default_factory=list)
    """The `Range` of every request for content, oldest first."""
    authorizations: list[str | None] = field(default_factory=list)
    """The `Authorization` of every request for content, oldest first."""
    port: int = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/models/{owner}/{name}", self._describe),
                web.get("/api/models/{owner}/{name}/revision/{revision}", self._describe),
                web.get("/{owner}/{name}/resolve/{revision}/{path:.+}", self._resolve),
                web.get("/content/{owner}/{name}/{path:.+}", self._content),
                web.get("/files/{path:.+}", self._file),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def _repository(self, request: web.Request) -> HubRepository:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        repository = self.repositories.get(name)
        if repository is None:
            raise _refusal(web.HTTPNotFound, "RepoNotFound", "Repository not found")
        if repository.gated and "Authorization" not in request.headers:
            raise _refusal(web.HTTPForbidden, "GatedRepo", "Access to this model is restricted")
        return repository

    async def _describe(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        body: dict[str, Any] = {
            "id": f"{request.match_info['owner']}/{request.match_info['name']}",
            "sha": COMMIT,
            "private": False,
            "gated": "auto" if repository.gated else False,
            "tags": [] if repository.licence is None else [f"license:{repository.licence}"],
            "siblings": [
                {
                    "rfilename": path,
                    "size": len(_bytes(content)),
                    "blobId": hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest(),
                    "lfs": {
                        "sha256": hashlib.sha256(_bytes(content)).hexdigest(),
                        "size": len(_bytes(content)),
                        "pointerSize": 135,
                    },
                }
                for path, content in repository.files.items()
            ],
        }
        if repository.licence is not None:
            body["cardData"] = {"license": repository.licence}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _resolve(self, request: web.Request) -> web.Response:
        repository = self._repository(request)
        path = request.match_info["path"]
        if path not in repository.files:
            raise _refusal(web.HTTPNotFound, "EntryNotFound", "Entry not found")
        content = _bytes(repository.files[path])
        owner, name = request.match_info["owner"], request.match_info["name"]
        return web.Response(
            status=302,
            headers={
                # Another host name, as a real hub sends content from elsewhere.
                "Location": f"http://localhost:{self.port}/content/{owner}/{name}/{path}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    async def _content(self, request: web.Request) -> web.StreamResponse:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        content = self.repositories[name].files.get(request.match_info["path"])
        if content is None:
            raise web.HTTPNotFound
        return await self._send(request, _bytes(content))

    async def _file(self, request: web.Request) -> web.StreamResponse:
        content = self.files.get(request.match_info["path"])
        if content is None:
            raise web.HTTPNotFound
        return await self._send(request, _bytes(content))

    async def _send(self, request: web.Request, content: bytes) -> web.StreamResponse:
        self.ranges.append(request.headers.get("Range"))
        self.authorizations.append(request.headers.get("Authorization"))
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        start = self._start(request, etag)
        if start >= len(content) and start > 0:
            raise web.HTTPRequestRangeNotSatisfiable(
                headers={"Content-Range": f"bytes */{len(content)}"}
            )
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        if self.trouble.no_length:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(content) - start
        await response.prepare(request)
        if request.method != "HEAD":
            await self._write(request, response, self._spoilt(content)[start:])
        return response

    def _start(self, request: web.Request, etag: str) -> int:
        """The first byte asked for; 0 where the range is ignored or the file has changed."""
        wanted = request.headers.get("Range", "")
        same = request.headers.get("If-Range", etag) == etag
        if self.trouble.ignore_range or not same or not wanted.startswith("bytes="):
            return 0
        return int(wanted.removeprefix("bytes=").partition("-")[0])

    def _spoilt(self, content: bytes) -> bytes:
        if not self.trouble.spoil:
            return content
        return content[:-1] + bytes([content[-1] ^ 0xFF])

    async def _write(
        self, request: web.Request, response: web.StreamResponse, content: bytes
    ) -> None:
        trouble = self.trouble
        if trouble.cut_after_bytes is not None and trouble.cuts > 0:
            trouble.cuts -= 1
            await response.write(content[: trouble.cut_after_bytes])
            await response.drain()
            if request.transport is not None:
                request.transport.close()
            return
        if trouble.wait_after_bytes is not None:
            await response.write(content[: trouble.wait_after_bytes])
            await asyncio.Event().wait()
        await response.write(content)
        await response.write_eof()


def _bytes(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _refusal(kind: type[web.HTTPException], code: str, message: str) -> web.HTTPException:
    return kind(headers={"X-Error-Code": code, "X-Error-Message": message}, text=message)
