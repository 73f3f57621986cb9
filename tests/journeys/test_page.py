"""What people do on the page, against a real server and in a real browser."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import chromium, watched
from tests.cli.running import PASSWORD, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

LAST = ".assistant:last-of-type"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@contextlib.contextmanager
def whole(data: Path) -> Iterator[str]:
    """One process."""
    with serving(data) as served:
        yield served.url


@contextlib.contextmanager
def parted(data: Path) -> Iterator[str]:
    """The API and the page in processes of their own."""
    with (
        serving(data, "--only", "api") as api,
        serving(data / "web", "--only", "web", MONGARS_WEB__API_URL=api.url) as web,
    ):
        yield web.url


async def set_up(page: Page, data: Path) -> None:
    await page.goto("/setup")
    await page.fill("[name=setup_code]", (data / "setup-code").read_text().strip())
    await page.fill("[name=username]", "ada")
    await page.fill("[name=password]", PASSWORD)
    await page.fill("[name=again]", PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#composer[data-ready]")


async def say(page: Page, message: str) -> None:
    await page.fill("#message", message)
    await page.keyboard.press("Enter")


@pytest.mark.parametrize("way", [whole, parted])
async def test_from_the_first_start_to_signing_out(
    chrome: Browser, tmp_path: Path, way: object
) -> None:
    data = tmp_path / "data"
    with (whole if way is whole else parted)(data) as base:
        async with watched(chrome, base) as eyes:
            page = eyes.page
            await page.goto("/")
            await expect(page).to_have_url(re.compile("/setup"))
            await set_up(page, data)

            await say(page, "**Hello** there, 👋 you")
            await expect(page.locator(f"{LAST} footer")).to_be_visible()
            await expect(page.locator(f"{LAST} .answer strong")).to_have_text("Hello")
            await expect(page).to_have_url(re.compile("/c/"))

            await say(page, "[[words 2000]] [[delay 20ms]]")
            await expect(page.locator(LAST)).to_contain_text("word5 ")
            await page.click("#stop")
            await expect(page.locator(f"{LAST} .note")).to_have_text("Stopped")
            shown = (await page.locator(f"{LAST} .answer").inner_text()).strip()
            assert shown.startswith("word1 word2")

            await page.reload()
            await expect(page.locator(".person")).to_have_count(2)
            await expect(page.locator(".assistant")).to_have_count(2)
            assert (await page.locator(f"{LAST} .answer").inner_text()).strip() == shown

            kept = await page.context.cookies()
            await page.get_by_role("button", name="Sign out").click()
            await expect(page).to_have_url(re.compile("/login"))
            await page.context.add_cookies(kept)
            await page.goto("/")
            await expect(page).to_have_url(re.compile("/login"))


async def test_two_devices_a_reload_and_another_answer(chrome: Browser, tmp_path: Path) -> None:
    with whole(tmp_path) as base:
        async with watched(chrome, base) as one:
            await set_up(one.page, tmp_path)
            await say(one.page, "[[words 60]] [[delay 100ms]]")
            await expect(one.page.locator(LAST)).to_contain_text("word3")
            await one.page.reload()
            await expect(one.page.locator(LAST)).to_contain_text("word12 ")
            async with watched(chrome, base, locale="fr") as two:
                await two.page.goto("/login")
                await two.page.fill("[name=username]", "ada")
                await two.page.fill("[name=password]", PASSWORD)
                await two.page.keyboard.press("Enter")
                await two.page.click("#list a")
                await expect(two.page.locator(LAST)).to_contain_text("word20 ")
                for page in (one.page, two.page):
                    await expect(page.locator(f"{LAST} footer")).to_be_visible(timeout=20_000)
                    await expect(page.locator(f"{LAST} .answer")).to_contain_text("word60")
                    await expect(page.locator(".assistant")).to_have_count(1)
            whole_text = " ".join(f"word{place}" for place in range(1, 61))
            assert (await one.page.locator(f"{LAST} .answer").inner_text()).strip() == whole_text
            await one.page.get_by_role("button", name="Answer again").click()
            await expect(one.page.locator(LAST)).to_contain_text("word3")
            await expect(one.page.locator(f"{LAST} footer")).to_be_visible(timeout=20_000)
            await expect(one.page.locator(".assistant")).to_have_count(1)


async def test_a_killed_server_loses_nothing_and_the_page_comes_back(
    chrome: Browser, tmp_path: Path
) -> None:
    lease = {"MONGARS_CORTEX__LEASE_S": "2"}
    with serving(tmp_path, **lease) as served:
        async with watched(chrome, served.url) as eyes:
            await set_up(eyes.page, tmp_path)
            await say(eyes.page, "[[words 200]] [[delay 20ms]]")
            await expect(eyes.page.locator(LAST)).to_contain_text("word20 ")
            served.process.kill()
            await asyncio.to_thread(served.process.wait, 10)
            await expect(eyes.page.locator("#said")).to_contain_text("econnect")
            port = served.url.rsplit(":", 1)[1]
            with serving(tmp_path, "--port", port, **lease):
                await expect(eyes.page.locator(f"{LAST} footer")).to_be_visible(timeout=30_000)
                await eyes.page.reload()
                await expect(eyes.page.locator(".person")).to_have_count(1)
                await expect(eyes.page.locator(LAST)).to_contain_text("word20 ")
