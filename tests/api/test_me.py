"""One's own account over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pyotp

from tests.conftest import PASSWORD, client_of

if TYPE_CHECKING:
    from mongars.body import Body

V1 = "/api/v1"
FORM = {"grant_type": "password", "username": "alice", "password": PASSWORD}


async def test_an_account_is_shown_and_changed(alice: httpx.AsyncClient) -> None:
    me = (await alice.get(f"{V1}/me")).json()
    assert (me["username"], me["role"], me["language"]) == ("alice", "user", None)
    changed = await alice.patch(f"{V1}/me", json={"language": "fr"})
    assert changed.json()["language"] == "fr"
    renamed = await alice.patch(f"{V1}/me", json={"username": "Alice L"})
    assert renamed.status_code == 422
    renamed = await alice.patch(f"{V1}/me", json={"username": "alice.l"})
    assert renamed.json()["username"] == "alice.l"
    assert renamed.json()["language"] == "fr"


async def test_a_password_is_changed_with_the_old_one_and_ends_other_sessions(
    body: Body, alice: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    other = (await client.post(f"{V1}/token", data=FORM)).json()["access_token"]
    asked = {"current_password": "wrong", "new_password": PASSWORD + "-new"}
    wrong = await alice.post(f"{V1}/me/password", json=asked)
    assert wrong.status_code == 403
    weak = {"current_password": PASSWORD, "new_password": "password1234"}
    refused = await alice.post(f"{V1}/me/password", json=weak)
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (
        422,
        ["body", "new_password"],
    )
    asked["current_password"] = PASSWORD
    assert (await alice.post(f"{V1}/me/password", json=asked)).status_code == 204
    assert (await alice.get(f"{V1}/me")).status_code == 200
    async with client_of(body, other) as ended:
        assert (await ended.get(f"{V1}/me")).status_code == 401


async def test_sessions_are_listed_and_ended(
    body: Body, alice: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    headers = {"user-agent": "Firefox on a phone"}
    told = (await client.post(f"{V1}/token", data=FORM, headers=headers)).json()
    listed = (await alice.get(f"{V1}/me/sessions")).json()["items"]
    assert len(listed) == 2
    [phone] = [one for one in listed if not one["current"]]
    assert (phone["device"], phone["way"]) == ("Firefox on a phone", "password")
    assert (await alice.delete(f"{V1}/me/sessions/{phone['id']}")).status_code == 204
    assert (await alice.delete(f"{V1}/me/sessions/{phone['id']}")).status_code == 404
    async with client_of(body, told["access_token"]) as ended:
        assert (await ended.get(f"{V1}/me")).status_code == 401


async def test_a_second_factor_from_start_to_end(
    alice: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    started = (await alice.post(f"{V1}/me/otp")).json()
    assert started["otpauth_uri"].startswith("otpauth://totp/monGARS:alice?secret=")
    assert (await client.post(f"{V1}/token", data=FORM)).status_code == 200
    wrong = await alice.post(f"{V1}/me/otp/confirm", json={"code": "000000"})
    assert wrong.status_code == 422
    totp, at = pyotp.TOTP(started["secret"]), int(time.time())
    done = await alice.post(f"{V1}/me/otp/confirm", json={"code": totp.at(at)})
    recovery = done.json()["recovery_codes"]
    assert len(recovery) == 10
    assert (await alice.get(f"{V1}/me")).json()["has_otp"] is True
    asked = await client.post(f"{V1}/token", data=FORM)
    assert (asked.status_code, asked.json()["type"]) == (403, "urn:mongars:problem:otp-required")
    replayed = await client.post(f"{V1}/token", data={**FORM, "otp": totp.at(at)})
    assert replayed.status_code == 401
    code = totp.at(at, counter_offset=1)
    assert (await client.post(f"{V1}/token", data={**FORM, "otp": code})).status_code == 200
    spare = {**FORM, "otp": recovery[0]}
    assert (await client.post(f"{V1}/token", data=spare)).status_code == 200
    assert (await client.post(f"{V1}/token", data=spare)).status_code == 401
    refused = await alice.request("DELETE", f"{V1}/me/otp", json={"code": "000000"})
    assert refused.status_code == 403
    gone = await alice.request("DELETE", f"{V1}/me/otp", json={"code": recovery[1]})
    assert gone.status_code == 204
    assert (await client.post(f"{V1}/token", data=FORM)).status_code == 200


async def test_a_key_is_shown_once_and_may_only_what_its_scopes_say(
    body: Body, alice: httpx.AsyncClient
) -> None:
    made = (await alice.post(f"{V1}/me/api-keys", json={"name": "a script"})).json()
    assert made["key"].startswith("mg_")
    assert sorted(made["scopes"]) == ["chat", "memory", "read"]
    listed = await alice.get(f"{V1}/me/api-keys")
    assert made["key"] not in listed.text
    async with client_of(body, made["key"]) as program:
        assert (await program.get(f"{V1}/me")).json()["username"] == "alice"
        for method, path, said in (
            ("POST", "/me/api-keys", {"name": "x"}),
            ("POST", "/me/password", {"new_password": PASSWORD}),
            ("DELETE", "/me", None),
            ("POST", "/auth/logout", None),
        ):
            refused = await program.request(method, f"{V1}{path}", json=said)
            assert (refused.status_code, refused.json()["type"]) == (
                403,
                "urn:mongars:problem:session-needed",
            )
        assert (await alice.delete(f"{V1}/me/api-keys/{made['id']}")).status_code == 204
        assert (await program.get(f"{V1}/me")).status_code == 401
    beyond = await alice.post(f"{V1}/me/api-keys", json={"name": "x", "scopes": ["admin"]})
    assert beyond.status_code == 403
    unknown = await alice.post(f"{V1}/me/api-keys", json={"name": "x", "scopes": ["all"]})
    assert unknown.status_code == 422


async def test_deleting_an_account_is_total(
    alice: httpx.AsyncClient, admin: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    assert (await alice.delete(f"{V1}/me")).status_code == 204
    assert (await alice.get(f"{V1}/me")).status_code == 401
    assert (await client.post(f"{V1}/token", data=FORM)).status_code == 401
    people = (await admin.get(f"{V1}/admin/people")).json()["items"]
    assert [one["username"] for one in people] == ["root-admin"]
