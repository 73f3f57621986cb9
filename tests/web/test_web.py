"""The page as a whole: who gets in, what guards it, how it fails."""

import gzip
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mongars.errors import NotConfigured
from mongars.settings import load
from mongars.web import create_web
from tests.web.conftest import ADDRESS, Browser, Open
from tests.web.fake_api import PASSWORD, SETUP_CODE, FakeApi


async def test_a_stranger_is_sent_to_the_door(browser: Browser) -> None:
    assert (await browser.get("/")).headers["location"] == "/login"
    onward = (await browser.get("/c/some-id")).headers["location"]
    assert onward == "/login?next=%2Fc%2Fsome-id"
    asked = await browser.get("/conversations", accept="application/json")
    assert asked.status_code == 401


async def test_signing_in_leaves_the_browser_a_session_and_never_a_token(
    browser: Browser, api: FakeApi
) -> None:
    answer = await browser.send("/login", username="ada", password=PASSWORD)
    cookies = answer.headers.get_list("set-cookie")
    session = next(one for one in cookies if one.startswith("mongars_session_"))
    assert "HttpOnly" in session
    assert "SameSite=Lax" in session
    assert "Secure" not in session
    home = await browser.get("/")
    assert home.status_code == 200
    for token in (*api.access, *api.refresh):
        assert token not in home.text + str(cookies)


async def test_signing_in_takes_a_session_that_nobody_knew_before(ada: Browser) -> None:
    known = {name: value for name, value in ada.http.cookies.items() if "session" in name}
    page = await ada.get("/settings")
    token = page.text.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    fields = {"csrfmiddlewaretoken": token, "username": "ada", "password": PASSWORD}
    await ada.http.post("/login", data=fields)
    assert known.items().isdisjoint(ada.http.cookies.items())


async def test_over_https_every_cookie_is_secure(open_browser: Open) -> None:
    browser = open_browser(base="https://localhost")
    page = await browser.get("/login")
    assert page.headers["strict-transport-security"]
    assert all("Secure" in one for one in page.headers.get_list("set-cookie"))


async def test_a_wrong_password_is_told_and_the_name_kept(browser: Browser) -> None:
    answer = await browser.send("/login", username="ada", password="no")
    assert answer.status_code == 401
    assert "not right" in answer.text
    assert 'value="ada"' in answer.text


async def test_too_many_tries_are_told_with_the_time_to_wait(browser: Browser) -> None:
    answer = await browser.send("/login", username="ada", password="too often")
    assert answer.status_code == 429
    assert "42 seconds" in answer.text


async def test_the_second_factor_is_asked_for_when_the_api_asks(
    browser: Browser, api: FakeApi
) -> None:
    api.otp = "123456"
    step = await browser.send("/login", username="ada", password=PASSWORD)
    assert 'name="otp"' in step.text
    wrong = await browser.send("/login", username="ada", password=PASSWORD, otp="000000")
    assert "That code is not right" in wrong.text
    right = await browser.send("/login", username="ada", password=PASSWORD, otp="123 456")
    assert right.headers["location"] == "/"


async def test_a_device_that_signed_in_before_says_so(browser: Browser, api: FakeApi) -> None:
    await browser.sign_in()
    await browser.send("/logout", at="/")
    await browser.sign_in()
    assert api.devices == [None, "this-device"]


async def test_coming_back_from_the_provider_signs_in(browser: Browser, api: FakeApi) -> None:
    assert "oidc/start" not in (await browser.get("/login")).text
    api.oidc_on = True
    assert "/api/v1/auth/oidc/start?then=/login/oidc" in (await browser.get("/login")).text
    refused = await browser.get("/login/oidc?code=made-up")
    assert refused.headers["location"].startswith("/login")
    assert (await browser.get("/login/oidc?code=from-provider")).headers["location"] == "/"
    assert "Hello ada." in (await browser.get("/")).text


async def test_the_first_person_comes_with_the_one_time_code(
    browser: Browser, api: FakeApi
) -> None:
    api.people.clear()
    assert (await browser.get("/login")).headers["location"] == "/setup"
    new = {"username": "bo", "password": PASSWORD, "again": PASSWORD}
    wrong = await browser.send("/setup", at="/setup", setup_code="guessed", **new)
    assert wrong.status_code == 422
    assert "This code is not right" in wrong.text
    differing = new | {"again": "other"}
    answer = await browser.send("/setup", at="/setup", setup_code=SETUP_CODE, **differing)
    assert "differ" in answer.text
    right = await browser.send("/setup", at="/setup", setup_code=SETUP_CODE, **new)
    assert right.headers["location"] == "/"
    assert (await browser.get("/")).status_code == 200


async def test_going_on_never_leads_to_another_site(browser: Browser) -> None:
    for onward in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        answer = await browser.send("/login", username="ada", password=PASSWORD, next=onward)
        assert answer.headers["location"] == "/"
        await browser.send("/logout", at="/")


async def test_signing_out_ends_the_token_and_the_session(ada: Browser, api: FakeApi) -> None:
    kept = dict(ada.http.cookies)
    await ada.send("/logout", at="/")
    assert api.access == {}
    ada.http.cookies.update(kept)
    assert (await ada.get("/")).headers["location"] == "/login"


async def test_a_form_without_its_token_is_refused(ada: Browser) -> None:
    for path in ("/login", "/logout", "/say", "/ticket", "/settings/password", "/settings/look"):
        answer = await ada.http.post(path, data={"message": "x"})
        assert answer.status_code == 403, path
        assert "This form is too old" in answer.text


async def test_an_ended_token_is_exchanged_and_stored(ada: Browser, api: FakeApi) -> None:
    before = dict(api.access)
    api.access.clear()
    assert (await ada.get("/")).status_code == 200
    assert set(api.access) != set(before)
    exchanged = len(api.successors)
    assert (await ada.get("/")).status_code == 200
    assert len(api.successors) == exchanged


async def test_two_tabs_exchanging_at_once_both_go_on(api: FakeApi, open_browser: Open) -> None:
    import asyncio

    api.expires_in = 1  # always too old to be used
    browser = open_browser()
    await browser.sign_in()
    answers = await asyncio.gather(*(browser.get("/") for _ in range(4)))
    assert [one.status_code for one in answers] == [200] * 4


async def test_a_long_request_does_not_undo_what_another_tab_stored(
    ada: Browser, api: FakeApi
) -> None:
    import asyncio

    api.access.clear()  # the long request exchanges the tokens first
    api.hold_after = 0
    long = asyncio.create_task(ada.send("/say", at="/nothing", message="Hello"))
    while not any(path == "/api/v1/chat" for _method, path, _headers in api.seen):
        await asyncio.sleep(0.005)
    first = dict(api.refresh)
    api.access.clear()
    assert (await ada.get("/")).status_code == 200  # so does this one, later
    assert set(api.refresh).isdisjoint(first)
    api.go.set()
    assert (await long).status_code == 302
    api.successors.clear()  # from now on an old token ends the session
    api.access.clear()
    assert (await ada.get("/")).status_code == 200


async def test_a_session_that_the_api_ended_leads_back_to_the_door(
    ada: Browser, api: FakeApi
) -> None:
    api.access.clear()
    api.refresh.clear()
    assert (await ada.get("/")).headers["location"] == "/login"


async def test_what_is_not_there_or_not_mine_is_the_same_page(ada: Browser) -> None:
    for path in ("/c/of-somebody-else", "/no/such/page"):
        answer = await ada.get(path)
        assert answer.status_code == 404
        assert "Nothing is here" in answer.text


async def test_an_api_that_is_away_is_said(tmp_path: Path) -> None:
    settings = load(tmp_path, {"MONGARS_WEB__API_URL": "http://127.0.0.1:1"})
    web = create_web(settings, tmp_path, api=None)
    transport = httpx.ASGITransport(app=web)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.get("/login")
        assert answer.status_code == 503
        assert "The server is away" in answer.text


async def test_alone_the_page_asks_for_the_address_of_the_api(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="MONGARS_WEB__API_URL"):
        create_web(load(tmp_path, {}), tmp_path, api=None)


async def test_every_page_is_guarded(ada: Browser) -> None:
    for path in ("/", "/login", "/settings", "/nothing-here"):
        headers = (await ada.get(path)).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"


async def test_no_page_has_anything_inline_or_from_elsewhere(ada: Browser) -> None:
    for path in ("/", "/login", "/setup", "/register", "/settings"):
        html = (await ada.get(path)).text
        assert not re.search(r"<style|\sstyle=|\son\w+=", html), path
        assert not re.search(r"""(?:src|href)=["'](?!/|#)""", html), path
        for kind in re.findall(r"<script([^>]*)>", html):
            assert 'type="module"' in kind or 'type="application/json"' in kind


async def test_a_name_that_is_not_ours_is_refused(open_browser: Open) -> None:
    browser = open_browser({"MONGARS_API__ALLOWED_HOSTS": '["*.example.org"]'})
    assert (await browser.get("/login", host="evil.example")).status_code == 403
    assert (await browser.get("/login", host="chat.example.org")).status_code == 200


@pytest.mark.parametrize("stripped", [True, False])
async def test_behind_a_proxy_below_a_path_every_address_has_it(
    open_browser: Open, *, stripped: bool
) -> None:
    browser = open_browser({"MONGARS_API__ROOT_PATH": "/assistant"})
    before = "" if stripped else "/assistant"
    away = await browser.get(f"{before}/c/x?a=1")
    assert away.headers["location"] == "/assistant/login?next=%2Fassistant%2Fc%2Fx%3Fa%3D1"
    html = (await browser.get(f"{before}/login")).text
    addresses = re.findall(r"""(?:src|href|action)=["']([^"'#]+)""", html)
    assert addresses
    assert all(one.startswith("/assistant/") for one in addresses)
    style = next(one for one in addresses if one.endswith(".css"))
    assert (await browser.get(before + style.removeprefix("/assistant"))).status_code == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_read(browser: Browser) -> None:
    answer = await browser.http.post("/login", content=b"x" * (2 * 1024 * 1024))
    assert answer.status_code == 413

    async def unannounced() -> object:
        for _ in range(40):
            yield b"x" * 65_536

    assert (await browser.http.post("/login", content=unannounced())).status_code == 413  # type: ignore[arg-type]


async def test_assets_are_kept_for_ever_packed_and_known_again(browser: Browser) -> None:
    page = (await browser.get("/login")).text
    for path in re.findall(r'="(/static/[^"]+)"', page):
        answer = await browser.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        again = await browser.get(path, if_none_match=answer.headers["etag"])
        assert again.status_code == 304
    assert (await browser.get("/static/../web.py")).status_code == 404


async def test_the_first_page_is_small(ada: Browser) -> None:
    page = await ada.get("/")
    whole = len(gzip.compress(page.content))
    for path in set(re.findall(r'="(/static/[^"]+)"', page.text)):
        async with ada.http.stream("GET", path) as answer:
            whole += sum([len(chunk) async for chunk in answer.aiter_raw()])
    assert whole < 100_000


async def test_the_browser_s_language_is_spoken_until_another_is_chosen(browser: Browser) -> None:
    assert "Bienvenue" not in (await browser.get("/login")).text
    french = await browser.get("/login", accept_language="fr-CA,fr;q=0.9")
    assert "Se connecter" in french.text
    assert 'lang="fr"' in french.text
    await browser.send("/settings/look", language="fr", next="/login")
    assert "Se connecter" in (await browser.get("/login")).text


async def test_the_theme_is_in_the_page_before_any_script_runs(browser: Browser) -> None:
    await browser.send("/settings/look", theme="dark", next="/login")
    assert 'data-theme="dark"' in (await browser.get("/login")).text


async def test_the_api_hears_the_browser_s_own_address_and_name(
    browser: Browser, api: FakeApi
) -> None:
    await browser.send("/login", username="ada", password=PASSWORD)
    _method, _path, headers = api.seen[-1]
    assert headers["x-seen-client"] == ADDRESS
    assert headers["user-agent"].startswith("python-httpx")


async def test_what_the_page_keeps_on_disk_is_for_its_owner_only(
    ada: Browser, tmp_path: Path
) -> None:
    sessions = tmp_path / "web-sessions"
    assert sessions.stat().st_mode & 0o777 == 0o700
    files = [*sessions.iterdir(), tmp_path / "web-secret-key"]
    assert len(files) > 1
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


async def test_with_redis_sessions_are_kept_there_as_json(
    open_browser: Open, redis_url: str, tmp_path: Path
) -> None:
    import redis

    browser = open_browser({"MONGARS_REDIS__URL": redis_url})
    await browser.sign_in()
    assert (await browser.get("/")).status_code == 200
    assert not (tmp_path / "web-sessions").exists()
    with redis.Redis.from_url(redis_url) as store:
        kept = [store.get(key) for key in store.keys("mongars:web*")]
    assert any(b'"tokens":{"access"' in one for one in kept if isinstance(one, bytes))


def test_django_is_not_needed_until_there_is_a_page() -> None:
    code = "import sys, mongars.web; print('django' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
