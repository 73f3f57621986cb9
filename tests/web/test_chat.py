"""Conversations without a script: the page works by forms alone."""

from mongars.ids import new_id
from tests.web.conftest import Browser
from tests.web.fake_api import PASSWORD, FakeApi


async def _say(browser: Browser, message: str) -> str:
    answer = await browser.send("/say", at="/", message=message)
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


async def test_saying_by_form_leads_to_the_answered_conversation(ada: Browser) -> None:
    page = (await ada.get(await _say(ada, "Hello"))).text
    assert "Hello" in page
    assert "<strong>one</strong>" in page
    assert "<li>first</li>" in page


async def test_what_people_and_models_write_never_becomes_markup(
    ada: Browser, api: FakeApi
) -> None:
    api.answer = "<script>alert(1)</script> ![x](https://evil.example/beacon.png)"
    page = (await ada.get(await _say(ada, "<img src=x onerror=alert(1)>"))).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "beacon.png" in page
    assert 'src="https' not in page


async def test_a_long_conversation_shows_its_end_and_the_rest_on_demand(
    ada: Browser, api: FakeApi
) -> None:
    where = await _say(ada, "the very first")
    for place in range(120):
        api._keep(where.removeprefix("/c/"), "user", f"number {place}.")
    newest = (await ada.get(where)).text
    assert "number 119." in newest
    assert ">the very first</div>" not in newest
    earlier = newest.split('href="')
    link = next(one.split('"')[0] for one in earlier if "?before=" in one)
    older = (await ada.get(link)).text
    assert ">the very first</div>" in older
    assert "number 119." not in older


async def test_how_an_answer_was_made_is_one_click_away(ada: Browser) -> None:
    page = (await ada.get(await _say(ada, "Hello"))).text
    assert "12 tokens · 1.9 s" in page


async def test_a_conversation_is_renamed(ada: Browser) -> None:
    where = await _say(ada, "Hello")
    await ada.send(f"{where}/rename", at=where, title="Rivers & <lakes>")
    assert "Rivers &amp; &lt;lakes&gt;" in (await ada.get(where)).text


async def test_a_deleted_conversation_can_be_brought_back(ada: Browser) -> None:
    where = await _say(ada, "Hello")
    gone = await ada.send(f"{where}/delete", at=where)
    home = await ada.get(gone.headers["location"])
    assert "Conversation deleted" in home.text
    assert (await ada.get(where)).status_code == 404
    await ada.send(f"{where}/restore", at=gone.headers["location"])
    assert (await ada.get(where)).status_code == 200


async def test_the_ticket_and_the_parts_are_for_the_script(ada: Browser) -> None:
    where = await _say(ada, "Hello")
    assert "<html" not in (await ada.get(f"{where}/messages")).text
    assert "<html" not in (await ada.get("/conversations")).text
    page = (await ada.get("/")).text
    token = page.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    told = await ada.http.post("/ticket", headers={"x-csrftoken": token})
    assert told.json() == {"ticket": "t1"}


async def test_the_state_of_the_model_is_said_on_the_empty_page(ada: Browser, api: FakeApi) -> None:
    page = (await ada.get("/")).text
    assert "small model that comes with monGARS" in page
    assert "mongars models pull better-4b" in page
    api.starter = False
    assert "small model" not in (await ada.get("/")).text
    api.model = {"state": "loading"}
    assert "The model is being loaded" in (await ada.get("/")).text
    api.model = {"state": "away", "detail": "Start Ollama."}
    page = (await ada.get("/")).text
    assert "No model answers right now" in page
    assert "Start Ollama." in page
    assert "stays on this server" not in page


async def test_states_of_answers_are_shown(ada: Browser, api: FakeApi) -> None:
    where = await _say(ada, "Hello")
    kept = api.messages[where.removeprefix("/c/")]
    kept[-1]["state"] = "stopped"
    assert "Stopped" in (await ada.get(where)).text
    kept[-1]["state"] = "failed"
    page = (await ada.get(where)).text
    assert "was interrupted" in page
    assert "/continue" in page
    kept.append(kept[-1] | {"id": new_id(), "role": "system", "text": "secret system words"})
    assert "secret system words" not in (await ada.get(where)).text


async def test_settings_show_sessions_and_change_the_password(ada: Browser) -> None:
    assert "Firefox, Linux" in (await ada.get("/settings")).text
    fields = {"current": PASSWORD, "password": "b", "again": "c"}
    differing = await ada.send("/settings/password", at="/settings", **fields)
    assert "differ" in differing.text
    wrong = fields | {"current": "no", "again": "b"}
    refused = await ada.send("/settings/password", at="/settings", **wrong)
    assert "not your password" in refused.text
    changed = await ada.send("/settings/password", at="/settings", **fields | {"again": "b"})
    assert "Your password is changed" in changed.text


async def test_signing_out_everywhere_ends_here(ada: Browser, api: FakeApi) -> None:
    answer = await ada.send("/settings/sessions/end-all", at="/settings")
    assert answer.headers["location"] == "/login?left=1"
    assert api.access == {}
