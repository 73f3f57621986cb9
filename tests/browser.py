"""A real chromium, and eyes on everything it does."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WITHIN_MS = 10_000

NAMELESS = """() => [...document.querySelectorAll('button, a[href], input:not([type=hidden]), textarea, summary')]
    .filter((e) => e.checkVisibility())
    .filter((e) => !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.[0]?.innerText.trim()))
    .map((e) => e.outerHTML.slice(0, 200))"""
"""Things to use that a screen reader could not name."""


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's chromium; skips where the machine has none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Watched:
    """A page, and what went wrong on it or left this machine."""

    page: Page
    base: str
    wrongs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(WITHIN_MS)
        self.page.on("pageerror", lambda error: self.wrongs.append(f"error: {error}"))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrongs.append(f"console: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(self.base):
            self.wrongs.append(f"asked elsewhere: {request.url}")


@contextlib.asynccontextmanager
async def watched(
    browser: Browser, base: str, within: BrowserContext | None = None, **options: Any
) -> AsyncIterator[Watched]:
    """A page in a context of its own, or in a given one; fails when anything went wrong on it."""
    context = within or await browser.new_context(base_url=base, **options)
    eyes = Watched(await context.new_page(), base)
    try:
        yield eyes
    finally:
        if within is None:
            await context.close()
    assert eyes.wrongs == []


@contextlib.contextmanager
def in_thread(app: Any) -> Iterator[str]:
    """The address of an application that a thread serves."""
    import socket
    import threading

    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, ws="websockets-sansio", log_config=None, lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(15)
