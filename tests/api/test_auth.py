"""Coming in and going out over HTTP."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

from mongars.settings import Settings, load
from mongars.telemetry import TelemetrySettings, configure_logs
from tests.auth.authenticator import Authenticator
from tests.conftest import PASSWORD, TWIN, client_of

if TYPE_CHECKING:
    from mongars.body import Body

V1 = "/api/v1"
FORM = {"grant_type": "password", "username": "alice", "password": PASSWORD}


@pytest.fixture
async def known(body: Body) -> str:
    return (await body.auth.add_person("alice", PASSWORD)).id


async def signed_in(client: httpx.AsyncClient, **more: str) -> dict[str, Any]:
    answer = await client.post(f"{V1}/token", data={**FORM, **more})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def slug(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).removeprefix("urn:mongars:problem:")


async def test_the_first_admin_is_made_once_with_the_code_in_the_file(
    body: Body, client: httpx.AsyncClient
) -> None:
    await body.auth.setup_code()
    assert (await client.get(f"{V1}/auth/ways")).json()["set_up"] is False
    code = (body.data_dir / "setup-code").read_text().strip()
    asked = {"setup_code": code, "username": "root", "password": PASSWORD}
    wrong = await client.post(f"{V1}/auth/setup", json={**asked, "setup_code": "x"})
    assert (wrong.status_code, slug(wrong)) == (403, "setup-code-wrong")
    weak = await client.post(f"{V1}/auth/setup", json={**asked, "password": "password1234"})
    assert weak.status_code == 422
    assert weak.json()["errors"][0]["loc"] == ["body", "password"]
    made = await client.post(f"{V1}/auth/setup", json=asked)
    assert (made.status_code, made.json()["username"]) == (201, "root")
    again = await client.post(f"{V1}/auth/setup", json={**asked, "username": "other"})
    assert again.status_code == 409
    token = (await signed_in(client, username="root"))["access_token"]
    assert (await client.get(f"{V1}/me", headers=bearer(token))).json()["role"] == "admin"
    assert (await client.get(f"{V1}/auth/ways")).json()["set_up"] is True


async def test_tokens_have_the_shape_that_oauth_clients_read(
    client: httpx.AsyncClient, known: str
) -> None:
    told = await signed_in(client)
    assert told["token_type"] == "bearer"
    assert told["expires_in"] == 600
    assert {"access_token", "refresh_token", "device_token"} < set(told)
    me = await client.get(f"{V1}/me", headers=bearer(told["access_token"]))
    assert me.json()["id"] == known
    refreshed = await client.post(
        f"{V1}/token/refresh", json={"refresh_token": told["refresh_token"]}
    )
    assert refreshed.status_code == 200
    assert refreshed.json()["refresh_token"] != told["refresh_token"]


async def test_wrong_passwords_are_401_and_then_429_but_a_known_device_gets_in(
    body: Body, client: httpx.AsyncClient, known: str
) -> None:
    device = (await signed_in(client))["device_token"]
    async with client_of(body) as stranger:
        for _ in range(5):
            wrong = await stranger.post(f"{V1}/token", data={**FORM, "password": "wrong"})
            assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_grant")
            assert wrong.headers["www-authenticate"].startswith("Bearer")
        late = await stranger.post(f"{V1}/token", data=FORM)
        assert (late.status_code, slug(late)) == (429, "too-many-tries")
        assert 0 < int(late.headers["retry-after"]) <= 30
        await signed_in(stranger, device_token=device)
    await signed_in(client)  # the same cookie jar as the first time


@pytest.mark.parametrize(
    "form",
    [
        {"username": "alice", "password": PASSWORD},
        {**FORM, "grant_type": "client_credentials"},
        {**FORM, "unknown": "x"},
        {**FORM, "username": "x" * 300},
    ],
)
async def test_a_wrong_form_is_refused_and_told_by_field(
    client: httpx.AsyncClient, form: dict[str, str]
) -> None:
    answer = await client.post(f"{V1}/token", data=form)
    assert answer.status_code == 422
    assert answer.json()["errors"]
    assert PASSWORD not in answer.text


async def test_missing_broken_and_ended_tokens_are_told_apart_by_the_standard(
    client: httpx.AsyncClient, known: str
) -> None:
    none = await client.get(f"{V1}/me")
    assert (none.status_code, none.headers["www-authenticate"]) == (401, "Bearer")
    for header in ("Bearer x.y.z", "Bearer mg_x", "bearer é"):
        broken = await client.get(f"{V1}/me", headers={"authorization": header.encode()})
        assert broken.status_code == 401
        assert 'error="invalid_token"' in broken.headers["www-authenticate"]
    assert (await client.get(f"{V1}/me", headers={"authorization": "Basic x"})).status_code == 401


async def test_signing_out_holds_at_once(client: httpx.AsyncClient, known: str) -> None:
    told = await signed_in(client)
    headers = bearer(told["access_token"])
    assert (await client.post(f"{V1}/auth/logout", headers=headers)).status_code == 204
    assert (await client.get(f"{V1}/me", headers=headers)).status_code == 401
    again = await client.post(f"{V1}/token/refresh", json={"refresh_token": told["refresh_token"]})
    assert (again.status_code, again.json()["error"]) == (401, "invalid_grant")


async def test_registration_needs_an_invitation(
    body: Body, client: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    asked = {"username": "bob", "password": PASSWORD}
    closed = await client.post(f"{V1}/auth/register", json=asked)
    assert (closed.status_code, slug(closed)) == (403, "registration-closed")
    made = await admin.post(f"{V1}/admin/invitations", json={"note": "for Bob"})
    asked["invitation"] = made.json()["invitation"]
    taken = await client.post(f"{V1}/auth/register", json={**asked, "username": "ROOT-admin"})
    assert (taken.status_code, slug(taken)) == (409, "name-taken")
    weak = await client.post(f"{V1}/auth/register", json={**asked, "password": "bob-bob-bob-bob"})
    assert (weak.status_code, slug(weak)) == (422, "weak-password")
    done = await client.post(f"{V1}/auth/register", json=asked)
    assert (done.status_code, set(done.json())) == (201, {"id", "username"})
    again = await client.post(f"{V1}/auth/register", json={**asked, "username": "carol"})
    assert again.status_code == 403


async def test_a_passkey_signs_in_on_a_name_and_says_why_not_on_an_address(
    body: Body, client: httpx.AsyncClient, known: str
) -> None:
    headers = bearer((await signed_in(client))["access_token"])
    local = {"host": "localhost:8000"}
    begun = await client.post(f"{V1}/me/passkeys/begin", headers=headers | local)
    device = Authenticator("http://localhost:8000")
    kept = await client.post(
        f"{V1}/me/passkeys",
        headers=headers | local,
        json={"name": "my phone", "credential": device.create(begun.json())},
    )
    assert (kept.status_code, kept.json()["rp_id"]) == (201, "localhost")
    asked = await client.post(f"{V1}/auth/passkeys/begin", headers=local)
    answer = {"credential": device.get(asked.json())}
    told = await client.post(f"{V1}/auth/passkeys/finish", headers=local, json=answer)
    assert told.status_code == 200
    me = await client.get(f"{V1}/me", headers=bearer(told.json()["access_token"]))
    assert me.json()["id"] == known
    again = await client.post(f"{V1}/auth/passkeys/finish", headers=local, json=answer)
    assert again.status_code == 401
    address = {"host": "127.0.0.1:8000"}
    for path in ("/me/passkeys/begin", "/auth/passkeys/begin"):
        refused = await client.post(f"{V1}{path}", headers=headers | address)
        assert (refused.status_code, slug(refused)) == (409, "passkeys-need-a-name")


async def test_without_a_provider_its_door_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{V1}/auth/oidc/start")
    assert (answer.status_code, slug(answer)) == (503, "not-configured")
    refused = await client.get(f"{V1}/auth/oidc/callback?state=x&error=access_denied")
    assert refused.status_code == 401


async def test_a_shared_secret_is_never_published(client: httpx.AsyncClient) -> None:
    assert (await client.get("/.well-known/jwks.json")).json() == {"keys": []}


async def test_nothing_secret_is_logged(
    client: httpx.AsyncClient, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = logging.getLogger().handlers[:]
    configure_logs(TelemetrySettings(level="debug", log_format="json"))
    try:
        told = await signed_in(client)
        await client.post(f"{V1}/token", data={**FORM, "password": "a-wrong-password"})
        await client.post(f"{V1}/token/refresh", json={"refresh_token": told["refresh_token"]})
        headers = bearer(told["access_token"])
        key = await client.post(f"{V1}/me/api-keys", json={"name": "x"}, headers=headers)
        await client.get(f"{V1}/me", headers=bearer(key.json()["key"]))
        await client.get(f"{V1}/auth/oidc/callback?state=the-state&code=the-code")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(logging.WARNING)
    lines = capsys.readouterr().err
    assert "/api/v1/token" in lines
    secrets = [PASSWORD, "a-wrong-password", "the-state", "the-code", key.json()["key"]]
    secrets += [told[name] for name in ("access_token", "refresh_token", "device_token")]
    assert [one for one in secrets if one in lines] == []


class TestWithKeyPairs:
    """`MONGARS_AUTH__ALGORITHM=RS256`."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        environ = {"MONGARS_LLM__BACKEND": TWIN, "MONGARS_AUTH__ALGORITHM": "RS256"}
        return load(tmp_path / "data", environ)

    async def test_the_public_half_is_published_and_verifies_tokens(
        self, client: httpx.AsyncClient, known: str
    ) -> None:
        from joserfc import jwt
        from joserfc.jwk import KeySet

        token = (await signed_in(client))["access_token"]
        published = (await client.get("/.well-known/jwks.json")).json()
        assert {"kty", "n", "e", "kid", "alg", "use"} == set(published["keys"][0])
        decoded = jwt.decode(token, KeySet.import_key_set(published), algorithms=["RS256"])
        assert decoded.claims["sub"] == known


async def test_a_ticket_is_for_who_may_chat(body: Body, alice: httpx.AsyncClient) -> None:
    made = await alice.post(f"{V1}/ws/ticket")
    assert made.status_code == 200
    caller = await body.auth.redeem_ticket(made.json()["ticket"])
    assert caller.username == "alice"
    key = await alice.post(f"{V1}/me/api-keys", json={"name": "x", "scopes": ["read"]})
    async with client_of(body, key.json()["key"]) as reader:
        refused = await reader.post(f"{V1}/ws/ticket")
        assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
