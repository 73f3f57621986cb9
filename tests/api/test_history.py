"""What was said, by time, and what is thought of it."""

import httpx

from tests.api.test_conversations import import_talk

H = "/api/v1/history"


async def test_history_is_told_newest_first_to_its_end(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    talk = await import_talk(alice, "a", "b", "c")
    asked = {"conversation_id": talk["id"], "limit": 2}
    first = (await alice.get(H, params=asked)).json()
    rest = (await alice.get(H, params={**asked, "before": first["next"]})).json()
    assert [one["text"] for one in first["items"] + rest["items"]] == ["c", "b", "a"]
    assert first["next"] == first["items"][-1]["id"]
    assert rest["next"] is None
    assert (await alice.get(H)).json()["items"] == first["items"] + rest["items"]
    assert (await bob.get(H)).json()["items"] == []
    for params in (asked, {"before": first["next"]}):
        assert (await bob.get(H, params=params)).status_code == 404


async def test_feedback_is_taken_for_ones_own_messages(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    await import_talk(alice, "a")
    message_id = (await alice.get(H)).json()["items"][0]["id"]
    address = f"/api/v1/messages/{message_id}/feedback"
    for said in ({"value": 1}, {"value": -1, "text": "no"}):
        assert (await alice.post(address, json=said)).status_code == 204
    assert (await bob.post(address, json={"value": 1})).status_code == 404
    assert (await alice.post(address, json={"value": 0})).status_code == 422
