"""The page in a real browser, while answers are being made."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from mongars.settings import load
from mongars.web import create_web
from tests.browser import NAMELESS, chromium, in_thread, watched
from tests.web.fake_api import PASSWORD, FakeApi

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

LAST = ".assistant:last-of-type"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
def api() -> Iterator[FakeApi]:
    made = FakeApi(people={"ada": PASSWORD})
    yield made
    made.go.set()


@pytest.fixture
def base(api: FakeApi, tmp_path: Path) -> Iterator[str]:
    answering = api.app()
    web = create_web(load(tmp_path, {}), tmp_path, api=answering)

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        of_api = scope["type"] == "lifespan" or scope["path"].startswith("/api/")
        await (answering if of_api else web)(scope, receive, send)

    with in_thread(app) as url:
        yield url


async def sign_in(page: Page) -> None:
    await page.goto("/login")
    await page.fill("[name=username]", "ada")
    await page.fill("[name=password]", PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#composer[data-ready]")


async def say(page: Page, message: str) -> None:
    await page.fill("#message", message)
    await page.keyboard.press("Enter")


async def test_an_answer_grows_block_by_block_and_ends_with_its_facts(
    chrome: Browser, base: str, api: FakeApi
) -> None:
    api.hold_after = api.answer.index("second")
    async with watched(chrome, base) as eyes:
        await sign_in(eyes.page)
        await say(eyes.page, "Hello 👋")
        last = eyes.page.locator(LAST)
        await expect(last.locator(".answer strong")).to_have_text("one")
        await expect(last.locator(".tail")).to_contain_text("- first")
        await expect(eyes.page.locator("#stop")).to_be_visible()
        api.go.set()
        await expect(last.locator("footer")).to_be_visible()
        await expect(last.locator(".answer li")).to_have_count(2)
        await expect(last.locator(".answer figure.code")).to_contain_text("x = 1")
        await expect(last.locator(".tail")).to_have_text("")
        await last.locator(".facts summary").click()
        await expect(last.locator(".facts p")).to_contain_text("12 tokens · 1.9 s")
        await expect(eyes.page).to_have_url(re.compile("/c/"))
        await expect(eyes.page.locator("#list [aria-current]")).to_have_text("Hello 👋")
        grown = await last.locator(".answer").inner_html()
        await eyes.page.reload()
        await expect(eyes.page.locator(".person .words")).to_have_text("Hello 👋")
        assert (await eyes.page.locator(f"{LAST} .answer").inner_html()).split() == grown.split()


async def test_stopping_keeps_what_was_said(chrome: Browser, base: str, api: FakeApi) -> None:
    api.hold_after = 20
    async with watched(chrome, base) as eyes:
        await sign_in(eyes.page)
        await say(eyes.page, "Hello")
        await expect(eyes.page.locator(LAST)).to_contain_text("Here is")
        await eyes.page.click("#stop")
        await expect(eyes.page.locator(f"{LAST} .note")).to_have_text("Stopped")
        await expect(eyes.page.locator("#send")).to_be_visible()
        await eyes.page.reload()
        await expect(eyes.page.locator(LAST)).to_contain_text("Here is")
        await expect(eyes.page.locator(f"{LAST} .note")).to_have_text("Stopped")


async def test_a_cut_connection_is_taken_up_again_without_a_lost_or_doubled_character(
    chrome: Browser, base: str, api: FakeApi
) -> None:
    api.hold_after = api.answer.index("```python")
    joined: list[WebSocketRoute] = []

    async def through(route: WebSocketRoute) -> None:
        route.connect_to_server()
        joined.append(route)

    async with watched(chrome, base) as eyes:
        await eyes.page.route_web_socket(re.compile("/ws/chat"), through)
        await sign_in(eyes.page)
        await say(eyes.page, "Hello")
        await expect(eyes.page.locator(LAST)).to_contain_text("second")
        await joined[-1].close(code=1012)
        await expect(eyes.page.locator("#said")).to_contain_text("Reconnecting")
        api.go.set()
        await expect(eyes.page.locator(f"{LAST} footer")).to_be_visible()
        assert len(joined) == 2
        assert [frame["after"] > 0 for frame in api.frames if frame["type"] == "resume"] == [True]
        shown = await eyes.page.locator(f"{LAST} .answer").inner_html()
        await eyes.page.reload()
        stored = await eyes.page.locator(f"{LAST} .answer").inner_html()
        assert shown.split() == stored.split()


async def test_two_tabs_see_the_same_answer_grow(chrome: Browser, base: str, api: FakeApi) -> None:
    async with watched(chrome, base) as one:
        await sign_in(one.page)
        await say(one.page, "First")
        await expect(one.page.locator(f"{LAST} footer")).to_be_visible()
        async with watched(chrome, base, within=one.page.context) as two:
            await two.page.goto(one.page.url)
            await expect(two.page.locator(".assistant")).to_have_count(1)
            api.hold_after = 20
            watching = [frame for frame in api.frames if frame["type"] == "watch"]
            assert watching
            await say(one.page, "Second")
            for page in (one.page, two.page):
                await expect(page.locator(".person")).to_have_count(2)
                await expect(page.locator(LAST)).to_contain_text("Here is")
            api.go.set()
            for page in (one.page, two.page):
                await expect(page.locator(f"{LAST} footer")).to_be_visible()
                await expect(page.locator(".assistant")).to_have_count(2)


async def test_without_sockets_answers_still_come(chrome: Browser, base: str) -> None:
    async with watched(chrome, base) as eyes:
        await eyes.page.route_web_socket(re.compile("/ws/chat"), lambda route: route.close())
        await sign_in(eyes.page)
        await say(eyes.page, "Hello")
        await expect(eyes.page.locator(".answer strong")).to_have_text("one")
        await expect(eyes.page.locator(".person")).to_have_count(1)
        await expect(eyes.page.locator("#said")).to_contain_text("live connection")


async def test_hostile_answers_and_words_are_shown_not_run(
    chrome: Browser, base: str, api: FakeApi
) -> None:
    api.answer = (
        "<script>document.title='owned'</script>\n\n<img src=x onerror=alert(1)>\n\n"
        "![beacon](https://evil.example/b.png)\n\n[click](javascript:alert(1))\n\n"
        "<svg onload=alert(1)>\n\n\u202egnp.exe and some more words\n\n```html\n<b onclick=x>\n```\n"
    )
    async with watched(chrome, base) as eyes:
        await sign_in(eyes.page)
        api.hold_after = api.answer.index("gnp.exe") + 3
        await say(eyes.page, "<img src=x onerror=document.title='owned'>")
        await expect(eyes.page.locator(f"{LAST} .tail")).to_contain_text("\ufffdgnp")
        api.go.set()
        await expect(eyes.page.locator(f"{LAST} footer")).to_be_visible()
        for _ in range(2):
            inside = eyes.page.locator("#messages")
            assert await inside.locator("script, img, svg:not(.icon), b, iframe").count() == 0
            assert await inside.locator("a[href^=javascript]").count() == 0
            assert "\u202e" not in await inside.inner_text()
            assert await eyes.page.title() != "owned"
            await eyes.page.reload()


async def test_a_draft_survives_and_what_is_refused_is_given_back(
    chrome: Browser, base: str
) -> None:
    async with watched(chrome, base) as eyes:
        await sign_in(eyes.page)
        await eyes.page.fill("#message", "half a thou")
        await eyes.page.reload()
        await expect(eyes.page.locator("#message")).to_have_value("half a thou")


async def test_signing_out_in_one_tab_signs_out_the_other(chrome: Browser, base: str) -> None:
    async with watched(chrome, base) as one:
        await sign_in(one.page)
        async with watched(chrome, base, within=one.page.context) as two:
            await two.page.goto("/")
            await one.page.get_by_role("button", name="Sign out").click()
            await expect(one.page).to_have_url(re.compile("/login"))
            await expect(two.page).to_have_url(re.compile("/login"))


async def test_a_deleted_conversation_is_undone(chrome: Browser, base: str) -> None:
    async with watched(chrome, base) as eyes:
        await sign_in(eyes.page)
        await say(eyes.page, "Hello")
        await expect(eyes.page.locator(f"{LAST} footer")).to_be_visible()
        await eyes.page.click("[popovertarget=actions]")
        await eyes.page.get_by_role("button", name="Delete").click()
        await eyes.page.get_by_role("button", name="Undo").click()
        await expect(eyes.page.locator(".person .words")).to_have_text("Hello")


async def test_a_phone_shows_the_list_when_asked_and_nothing_runs_over_the_edge(
    chrome: Browser, base: str, api: FakeApi
) -> None:
    api.answer = f"{'long' * 80}\n\n```\n{'wide ' * 80}\n```\n\n|{'a|' * 30}\n|{'-|' * 30}\n"
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True}
    async with watched(chrome, base, **phone) as eyes:
        await sign_in(eyes.page)
        await say(eyes.page, "w" * 300)
        await eyes.page.click("#send")
        await expect(eyes.page.locator(f"{LAST} footer")).to_be_visible()
        wide = "document.documentElement.scrollWidth > innerWidth"
        assert not await eyes.page.evaluate(wide)
        await expect(eyes.page.locator("#sidebar")).to_be_hidden()
        await eyes.page.get_by_role("button", name="Show the list").click()
        await expect(eyes.page.locator("#sidebar")).to_be_visible()
        await eyes.page.keyboard.press("Escape")
        await expect(eyes.page.locator("#sidebar")).to_be_hidden()


@pytest.mark.parametrize("language", ["en", "fr"])
async def test_everything_to_use_has_a_name_and_the_keyboard_reaches_it(
    chrome: Browser, base: str, language: str
) -> None:
    async with watched(chrome, base, locale=language) as eyes:
        for path in ("/login", "/setup", "/register", "/nothing"):
            await eyes.page.goto(path)
            assert await eyes.page.evaluate(NAMELESS) == []
        await sign_in(eyes.page)
        await say(eyes.page, "Hello")
        await expect(eyes.page.locator(f"{LAST} footer")).to_be_visible()
        assert await eyes.page.evaluate(NAMELESS) == []
        assert await eyes.page.evaluate("document.activeElement.id") == "message"
        await eyes.page.goto("/settings")
        assert await eyes.page.evaluate(NAMELESS) == []
        await eyes.page.keyboard.press("Tab")
        assert await eyes.page.evaluate("document.activeElement.className") == "skip"
