"""Conversations over HTTP."""

from typing import Any

import httpx
import pytest

C = "/api/v1/conversations"


async def import_talk(client: httpx.AsyncClient, *texts: str, title: str = "t") -> dict[str, Any]:
    """A conversation of these texts, as the list tells it."""
    said = [
        {"role": "assistant" if n % 2 else "user", "text": text, "at": f"2026-01-01T00:00:{n:02}Z"}
        for n, text in enumerate(texts)
    ]
    body = {"format": "mongars", "conversations": [{"title": title, "messages": said}]}
    (await client.post(f"{C}/import", json=body)).raise_for_status()
    listed = (await client.get(C)).json()["items"]
    return dict(next(one for one in listed if one["title"] == title))


async def test_a_conversation_is_begun_changed_and_told(alice: httpx.AsyncClient) -> None:
    answer = await alice.post(C, json={})
    assert answer.status_code == 201
    begun = answer.json()
    assert set(begun) == {
        *("id", "title", "model", "system_prompt", "temperature", "tags", "pinned"),
        *("archived", "temporary", "active_leaf_id", "created_at", "updated_at"),
    }
    changes = {
        "title": "Un thé",
        "model": "m",
        "system_prompt": " keep \n",
        "temperature": 0.25,
        "tags": ["a", "b"],
        "pinned": True,
        "archived": True,
    }
    changed = (await alice.patch(f"{C}/{begun['id']}", json=changes)).json()
    assert changed == {**begun, **changes}
    assert (await alice.get(f"{C}/{begun['id']}")).json() == changed
    assert (await alice.get(C)).json() == {"items": [], "next": None}
    listed = (await alice.get(C, params={"archived": True, "tag": "b"})).json()
    assert listed["items"] == [changed]
    cleared = await alice.patch(f"{C}/{begun['id']}", json={"title": None, "temperature": None})
    assert (cleared.json()["title"], cleared.json()["temperature"]) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 3},
        {"tags": None},
        {"pinned": None},
        {"temporary": True},
        {"title": ""},
        {"title": "a\x00"},
        {"unknown": 1},
    ],
)
async def test_wrong_changes_are_refused_by_name(
    alice: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    begun = (await alice.post(C, json={})).json()
    answer = await alice.patch(f"{C}/{begun['id']}", json=changes)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][:2] == ["body", next(iter(changes))]


async def test_a_leaf_of_another_conversation_is_not_shown(alice: httpx.AsyncClient) -> None:
    talk = await import_talk(alice, "a", "b", title="one")
    other = await import_talk(alice, "x", title="two")
    said = (await alice.get(f"{C}/{talk['id']}/messages")).json()["items"]
    moved = await alice.patch(f"{C}/{talk['id']}", json={"active_leaf_id": said[0]["id"]})
    assert moved.json()["active_leaf_id"] == said[0]["id"]
    shown = (await alice.get(f"{C}/{talk['id']}/messages")).json()["items"]
    assert shown == said[:1]
    answer = await alice.patch(f"{C}/{other['id']}", json={"active_leaf_id": said[0]["id"]})
    assert answer.status_code == 404


async def test_messages_are_told_in_parts(alice: httpx.AsyncClient) -> None:
    talk = await import_talk(alice, "a", "b", "c")
    address = f"{C}/{talk['id']}/messages"
    first = (await alice.get(address, params={"limit": 2})).json()
    rest = (await alice.get(address, params={"limit": 2, "cursor": first["next"]})).json()
    texts = [one["text"] for one in first["items"] + rest["items"]]
    assert (texts, rest["next"]) == (["a", "b", "c"], None)
    assert set(first["items"][0]) >= {
        *("id", "conversation_id", "parent_id", "role", "text", "at", "state", "model")
    }
    last = rest["items"][-1]["id"]
    before = (await alice.get(address, params={"limit": 1, "before": last})).json()
    assert [one["text"] for one in before["items"]] == ["b"]
    whole = (await alice.get(address, params={"tree": True})).json()
    assert [one["text"] for one in whole["items"]] == ["a", "b", "c"]
    one = (await alice.get(f"/api/v1/messages/{last}")).json()
    assert one == rest["items"][-1]


async def test_a_deleted_conversation_is_hidden_and_comes_back(alice: httpx.AsyncClient) -> None:
    talk = await import_talk(alice, "a")
    assert (await alice.delete(f"{C}/{talk['id']}")).status_code == 204
    assert (await alice.get(f"{C}/{talk['id']}")).status_code == 404
    assert (await alice.delete(f"{C}/{talk['id']}")).status_code == 404
    restored = await alice.post(f"{C}/{talk['id']}/restore")
    assert restored.json() == talk
    assert (await alice.get(C)).json()["items"] == [talk]


async def test_a_fork_without_a_message_copies_what_is_in_view(alice: httpx.AsyncClient) -> None:
    told = (await alice.post("/api/v1/chat", json={"message": "one two"})).json()
    answer = await alice.post(f"{C}/{told['conversation_id']}/fork")
    assert answer.status_code == 201
    copied = (await alice.get(f"{C}/{answer.json()['id']}/messages")).json()["items"]
    assert [one["text"] for one in copied] == ["one two", "one two"]
    empty = (await alice.post(C, json={})).json()["id"]
    assert (await alice.post(f"{C}/{empty}/fork", json={})).status_code == 409


async def test_a_fork_ends_where_it_was_asked_to(alice: httpx.AsyncClient) -> None:
    talk = await import_talk(alice, "a", "b", "c")
    said = (await alice.get(f"{C}/{talk['id']}/messages")).json()["items"]
    answer = await alice.post(f"{C}/{talk['id']}/fork", json={"message_id": said[1]["id"]})
    assert answer.status_code == 201
    copies = (await alice.get(f"{C}/{answer.json()['id']}/messages")).json()["items"]
    assert [one["text"] for one in copies] == ["a", "b"]


async def test_ones_own_words_are_found(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    talk = await import_talk(alice, "Un café", "50% off")
    for words in ("CAFE", "50%"):
        found = (await alice.get(f"{C}/search", params={"q": words})).json()
        assert [one["conversation"]["id"] for one in found["items"]] == [talk["id"]]
        assert (await bob.get(f"{C}/search", params={"q": words})).json()["items"] == []
    assert (await alice.get(f"{C}/search", params={"q": "%"})).json()["items"] != []
    assert (await alice.get(f"{C}/search", params={"q": "_"})).json()["items"] == []
    assert (await alice.get(f"{C}/search", params={"q": ""})).status_code == 422
    assert (await alice.get(C, params={"cursor": "nonsense"})).status_code == 422


async def test_presets_are_kept_by_name(alice: httpx.AsyncClient) -> None:
    presets = "/api/v1/presets"
    made = await alice.post(presets, json={"name": "calm", "temperature": 0})
    assert made.status_code == 201
    assert (await alice.post(presets, json={"name": "calm"})).status_code == 409
    changed = await alice.patch(f"{presets}/{made.json()['id']}", json={"model": "m"})
    assert changed.json() == {**made.json(), "model": "m"}
    assert (await alice.get(presets)).json()["items"] == [changed.json()]
    assert (await alice.delete(f"{presets}/{made.json()['id']}")).status_code == 204
    assert (await alice.get(presets)).json()["items"] == []
