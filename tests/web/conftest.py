"""The page over a small API, as a client sees it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mongars.settings import load
from mongars.web import create_web
from tests.web.fake_api import PASSWORD, FakeApi


@pytest.fixture
def api() -> FakeApi:
    return FakeApi(people={"ada": PASSWORD})


@pytest.fixture
async def browser(api: FakeApi, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a cookie jar, before anybody has signed in."""
    web = create_web(load(tmp_path, {}), tmp_path, api=api.app())
    transport = httpx.ASGITransport(app=web, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
