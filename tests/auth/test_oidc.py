"""Signing in at a real OpenID Connect server, in a process of its own."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from mongars.auth import Auth, AuthSettings
from mongars.auth.oidc import Begun
from mongars.database import Database, DatabaseSettings, migrate
from mongars.errors import Conflict, Forbidden, Invalid, NotConfigured, Unavailable, Unproven
from tests.auth.conftest import Clock, add
from tests.servers import free_port, wait_for_port

BACK = "http://testserver/api/v1/auth/oidc/callback"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "oidc_provider_mock",
            "--port",
            str(port),
            "--require-nonce",
            "true",
        ],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        process.wait(10)


def settings_for(issuer: str, *, create: bool = True) -> AuthSettings:
    return AuthSettings(
        oidc_issuer=issuer,
        oidc_client_id="mongars",
        oidc_client_secret=SecretStr("a-secret"),
        oidc_create=create,
    )


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """One kind of database is enough here."""
    async with Database.open(DatabaseSettings(), tmp_path) as opened:
        await migrate.upgrade(opened)
        yield opened


@pytest.fixture
async def auth(
    issuer: str, database: Database, tmp_path: Path, clock: Clock
) -> AsyncIterator[Auth]:
    async with Auth.open(settings_for(issuer), database, tmp_path, clock) as opened:
        yield opened


async def at_provider(begun: Begun, subject: str) -> tuple[str, str]:
    """Sign in at the provider's own page; the state and the code it sends back."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.post(begun.url, data={"sub": subject})
    assert answer.status_code == 302, answer.text
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == BACK
    told = parse_qs(back.query)
    return told["state"][0], told["code"][0]


async def test_who_comes_from_the_provider_is_the_same_person_each_time(auth: Auth) -> None:
    begun = await auth.openid.begin(BACK, then="/login")
    asked = parse_qs(urlsplit(begun.url).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert {"state", "nonce", "code_challenge"} <= set(asked)
    assert begun.binding not in repr(begun)
    proved = await auth.openid.finish(*await at_provider(begun, "ada@example.org"), begun.binding)
    assert proved.then == "/login"
    assert (await auth.accounts.person(proved.person_id)).username == "ada"
    again = await auth.openid.begin(BACK)
    second = await auth.openid.finish(*await at_provider(again, "ada@example.org"), again.binding)
    assert second.person_id == proved.person_id
    account = await auth.accounts.account(proved.person_id)
    assert not account.has_password


async def test_a_name_at_the_provider_never_opens_an_account_here(auth: Auth) -> None:
    alice = await add(auth, "grace")
    begun = await auth.openid.begin(BACK)
    proved = await auth.openid.finish(*await at_provider(begun, "grace@example.org"), begun.binding)
    assert proved.person_id != alice
    assert (await auth.accounts.person(proved.person_id)).username == "grace-2"


async def test_an_account_here_is_bound_by_its_own_person(
    issuer: str, database: Database, tmp_path: Path, clock: Clock
) -> None:
    settings = settings_for(issuer, create=False)
    async with Auth.open(settings, database, tmp_path, clock) as auth:
        alice, bob = await add(auth), await add(auth, "bob")
        begun = await auth.openid.begin(BACK)
        with pytest.raises(Forbidden):
            await auth.openid.finish(*await at_provider(begun, "al@example.org"), begun.binding)
        begun = await auth.openid.begin(BACK, owner_id=alice)
        await auth.openid.finish(*await at_provider(begun, "al@example.org"), begun.binding)
        begun = await auth.openid.begin(BACK)
        proved = await auth.openid.finish(
            *await at_provider(begun, "al@example.org"), begun.binding
        )
        assert proved.person_id == alice
        begun = await auth.openid.begin(BACK, owner_id=bob)
        with pytest.raises(Conflict):
            await auth.openid.finish(*await at_provider(begun, "al@example.org"), begun.binding)


async def test_only_the_browser_that_began_comes_back_and_once(auth: Auth) -> None:
    begun = await auth.openid.begin(BACK)
    state, code = await at_provider(begun, "eve@example.org")
    for binding in (None, "another"):
        with pytest.raises(Unproven):
            await auth.openid.finish(state, code, binding)
    begun = await auth.openid.begin(BACK)
    state, code = await at_provider(begun, "eve@example.org")
    await auth.openid.finish(state, code, begun.binding)
    with pytest.raises(Unproven):
        await auth.openid.finish(state, code, begun.binding)
    begun = await auth.openid.begin(BACK)
    state, _code = await at_provider(begun, "eve@example.org")
    with pytest.raises(Unproven):
        await auth.openid.finish(state, "another-code", begun.binding)


async def test_an_id_token_of_another_sign_in_is_refused(auth: Auth) -> None:
    async with httpx.AsyncClient(trust_env=False) as provider:
        begun = await auth.openid.begin(BACK)
        asked = parse_qs(urlsplit(begun.url).query)
        keys = (await provider.get(begun.url.split("/oauth2")[0] + "/jwks")).json()
        _state, code = await at_provider(begun, "zoe@example.org")
        told = await provider.post(
            begun.url.split("/authorize")[0] + "/token",
            data={"grant_type": "authorization_code", "code": code, "redirect_uri": BACK},
            auth=("mongars", "a-secret"),
        )
    token = told.json()["id_token"]
    claims = auth.openid._claims(token, keys, asked["nonce"][0])
    assert claims["sub"] == "zoe@example.org"
    for bad, nonce in ((token, "other"), (token + "x", asked["nonce"][0]), (None, "")):
        with pytest.raises(Unproven):
            auth.openid._claims(bad, keys, nonce)
    head, payload, _signature = token.split(".")
    none = "eyJhbGciOiJub25lIn0"
    for forged in (f"{none}.{payload}.", f"{head}.{payload}."):
        with pytest.raises(Unproven):
            auth.openid._claims(forged, keys, asked["nonce"][0])


async def test_a_provider_that_is_away_or_not_named_is_told_plainly(
    auth: Auth, database: Database, tmp_path: Path, clock: Clock
) -> None:
    for then in ("https://evil.example.org/", "//evil.example.org", "/\\evil.example.org"):
        with pytest.raises(Invalid):
            await auth.openid.begin(BACK, then=then)
    cases = {
        f"http://localhost:{free_port()}": Unavailable,
        "http://id.example.org": NotConfigured,
    }
    for issuer, kind in cases.items():
        async with Auth.open(settings_for(issuer), database, tmp_path, clock) as other:
            with pytest.raises(kind):
                await other.openid.begin(BACK)
    async with Auth.open(AuthSettings(), database, tmp_path, clock) as off:
        with pytest.raises(NotConfigured, match="OIDC_ISSUER"):
            await off.openid.begin(BACK)
