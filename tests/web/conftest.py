"""The page over a small API, as a browser sees it."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from mongars.settings import load
from mongars.web import create_web
from tests.web.fake_api import PASSWORD, FakeApi

ADDRESS = "192.0.2.7"


class Browser:
    """A cookie jar and forms."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(path, headers=named)

    async def send(self, path: str, *, at: str = "/login", **fields: str) -> httpx.Response:
        """Send a form with the token that the page `at` carries."""
        page = await self.http.get(at)
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert found, page.text
        return await self.http.post(path, data={"csrfmiddlewaretoken": found[1], **fields})

    async def sign_in(self) -> None:
        answer = await self.send("/login", username="ada", password=PASSWORD)
        assert answer.status_code == 302, answer.text


@pytest.fixture
def api() -> FakeApi:
    return FakeApi(people={"ada": PASSWORD})


Open = Callable[..., Browser]


@pytest.fixture
async def open_browser(api: FakeApi, tmp_path: Path) -> AsyncIterator[Open]:
    """Browsers of the same page; the environment may set what it likes."""
    opened: list[httpx.AsyncClient] = []

    def open_one(environ: dict[str, str] | None = None, base: str = "http://localhost") -> Browser:
        web = create_web(load(tmp_path, environ or {}), tmp_path, api=api.app())
        transport = httpx.ASGITransport(app=web, client=(ADDRESS, 1))
        opened.append(httpx.AsyncClient(transport=transport, base_url=base))
        return Browser(opened[-1])

    yield open_one
    for one in opened:
        await one.aclose()


@pytest.fixture
async def browser(open_browser: Open) -> Browser:
    """Nobody has signed in yet."""
    return open_browser()


@pytest.fixture
async def ada(browser: Browser) -> Browser:
    """Ada has signed in."""
    await browser.sign_in()
    return browser
