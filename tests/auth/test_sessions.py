import asyncio
import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import OctKey

from mongars.auth import Auth, AuthSettings, Tokens
from mongars.database import Database
from mongars.errors import Missing, Unproven
from tests.auth.conftest import HERE, PASSWORD, Clock, add


async def sign_in(auth: Auth, name: str = "alice") -> Tokens:
    return await auth.sign_in(name, PASSWORD, None, HERE)


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _claims(token: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return told


async def test_an_access_token_proves_its_person_until_it_ends(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    tokens = await sign_in(auth)
    caller = await auth.prove(tokens.access_token)
    assert (caller.id, caller.username, caller.session_id) == (
        person_id,
        "alice",
        tokens.session_id,
    )
    assert caller.scopes == {"chat", "read", "memory"}
    clock.forward(seconds=tokens.expires_in)
    with pytest.raises(Unproven):
        await auth.prove(tokens.access_token)


async def test_tokens_that_are_not_ours_prove_nobody(auth: Auth, clock: Clock) -> None:
    await add(auth)
    good = (await sign_in(auth)).access_token
    key, claims = await auth.keys.signing(), _claims(good)
    head = {"alg": "HS256", "kid": key.kid, "typ": "at+jwt"}

    def signed(changed: dict[str, Any], header: dict[str, Any] = head) -> str:
        return jwt.encode(header, {**claims, **changed}, key.key)

    assert (await auth.prove(signed({}))).username == "alice"
    header, payload, signature = good.split(".")
    none = {"alg": "none", "kid": key.kid, "typ": "at+jwt"}
    forged = [
        f"{_part(none)}.{payload}.",
        f"{_part({**none, 'alg': 'None'})}.{payload}.{signature}",
        f"{header}.{_part({**claims, 'sub': 'another'})}.{signature}",
        signed({"exp": int(clock().timestamp()) - 1}),
        signed({"iss": "another"}),
        signed({"aud": "another"}),
        signed({"epoch": 7}),
        signed({"sub": "another"}),
        signed({"sid": "another"}),
        signed({"sid": None}),
        signed({"exp": "never"}),
        signed({}, {**head, "typ": "JWT"}),
        *(signed({}, {**head, "kid": kid}) for kid in ("../../etc/passwd", "' OR 1=1 --", "x")),
        jwt.encode({**head, "kid": "none"}, claims, OctKey.import_key(b"\0" * 32)),
        jwt.encode(head, claims, OctKey.import_key(b"\0" * 32)),
        f"{_part({'alg': 'HS256', 'typ': 'at+jwt'})}.{payload}.{signature}",
        f"{_part({**head, 'kid': ['x']})}.{payload}.{signature}",
        f"{_part({**head, 'crit': ['x']})}.{payload}.{signature}",
        "",
        "a.b.c",
        "é.é.é",
        f"{header}.{payload}",
        good + "x" * 5000,
        "mg_" + "x" * 43,
    ]
    for token in forged:
        with pytest.raises(Unproven) as refused:
            await auth.prove(token)
        assert refused.value.extra["error"] == "invalid_token"


async def test_a_public_key_is_never_taken_for_a_shared_secret(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    async with Auth.open(AuthSettings(algorithm="RS256"), database, tmp_path, clock) as auth:
        await add(auth)
        good = (await sign_in(auth)).access_token
        key = await auth.keys.signing()
        assert key.algorithm == "RS256"
        pem = key.key.as_pem(private=False)  # type: ignore[union-attr]
        assert serialization.load_pem_public_key(pem)
        head = {"alg": "HS256", "kid": key.kid, "typ": "at+jwt"}
        signed = f"{_part(head)}.{good.split('.')[1]}"  # the library itself would not sign this
        mac = hmac.new(pem, signed.encode(), "sha256").digest()
        forged = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        with pytest.raises(Unproven):
            await auth.prove(forged)
        assert (await auth.prove(good)).username == "alice"


async def test_signing_out_ends_a_session_at_once_and_no_other(auth: Auth) -> None:
    await add(auth)
    here, there = await sign_in(auth), await sign_in(auth)
    await auth.end_session(here.session_id)
    for proof in (auth.prove(here.access_token), auth.sessions.refresh(here.refresh_token)):
        with pytest.raises(Unproven):
            await proof
    assert (await auth.prove(there.access_token)).username == "alice"


async def test_nobody_ends_the_session_of_another(auth: Auth) -> None:
    alice, bob = await add(auth), await add(auth, "bob")
    tokens = await sign_in(auth)
    with pytest.raises(Missing):
        await auth.sessions.end(bob, tokens.session_id)
    await auth.prove(tokens.access_token)
    assert await auth.sessions.of(bob) == []
    [mine] = await auth.sessions.of(alice)
    assert (mine.device, mine.way) == ("a laptop", "password")


async def test_refreshing_rotates_and_keeps_the_session(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    first = await sign_in(auth)
    clock.forward(minutes=9)
    second = await auth.sessions.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert second.session_id == first.session_id
    await auth.prove(second.access_token)
    [session] = await auth.sessions.of(person_id)
    assert session.last_seen_at == clock()


async def test_two_tabs_that_refresh_at_once_are_given_the_same_successor(
    auth: Auth, clock: Clock
) -> None:
    await add(auth)
    first = await sign_in(auth)
    tabs = await asyncio.gather(*(auth.sessions.refresh(first.refresh_token) for _ in range(4)))
    assert len({tab.refresh_token for tab in tabs}) == 1
    clock.forward(seconds=9)
    late = await auth.sessions.refresh(first.refresh_token)
    assert late.refresh_token == tabs[0].refresh_token
    assert (await auth.sessions.refresh(late.refresh_token)).session_id == first.session_id


async def test_a_refresh_token_used_again_later_ends_its_whole_family(
    auth: Auth, clock: Clock
) -> None:
    await add(auth)
    first, other = await sign_in(auth), await sign_in(auth)
    second = await auth.sessions.refresh(first.refresh_token)
    clock.forward(seconds=11)
    with pytest.raises(Unproven) as refused:
        await auth.sessions.refresh(first.refresh_token)
    assert refused.value.extra["error"] == "invalid_grant"
    for proof in (auth.prove(second.access_token), auth.sessions.refresh(second.refresh_token)):
        with pytest.raises(Unproven):
            await proof
    await auth.prove(other.access_token)


async def test_a_session_that_is_not_used_ends(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    tokens = await sign_in(auth)
    clock.forward(days=31)
    with pytest.raises(Unproven):
        await auth.sessions.refresh(tokens.refresh_token)
    assert await auth.sessions.of(person_id) == []
    await auth.sweep(clock())


async def test_used_refresh_tokens_are_swept_and_their_session_lives_on(
    auth: Auth, clock: Clock
) -> None:
    await add(auth)
    first = await sign_in(auth)
    newest = await auth.sessions.refresh(first.refresh_token)
    clock.forward(days=20)
    newest = await auth.sessions.refresh(newest.refresh_token)
    clock.forward(days=20)
    await auth.sweep(clock())
    with pytest.raises(Unproven):
        await auth.sessions.refresh(first.refresh_token)
    assert (await auth.sessions.refresh(newest.refresh_token)).session_id == first.session_id


async def test_the_role_of_now_counts_and_not_the_role_of_then(auth: Auth) -> None:
    await add(auth, "root", admin=True)
    await add(auth, "other", admin=True)
    tokens = await sign_in(auth, "root")
    assert "admin" in (await auth.prove(tokens.access_token)).scopes
    await auth.set_role("root", "user")
    caller = await auth.prove(tokens.access_token)
    assert (caller.role, "admin" in caller.scopes) == ("user", False)


async def test_a_ticket_opens_once_and_within_a_minute(auth: Auth, clock: Clock) -> None:
    await add(auth)
    tokens = await sign_in(auth)
    caller = await auth.prove(tokens.access_token)
    ticket = await auth.make_ticket(caller)
    assert await auth.redeem_ticket(ticket) == caller
    late = await auth.make_ticket(caller)
    ended = await auth.make_ticket(caller)
    clock.forward(seconds=61)
    for bad in (ticket, late, "", "x" * 4000):
        with pytest.raises(Unproven):
            await auth.redeem_ticket(bad)
    await auth.end_session(tokens.session_id)
    with pytest.raises(Unproven):
        await auth.redeem_ticket(ended)


async def test_the_command_lines_session_is_short_and_ends_with_it(
    auth: Auth, clock: Clock
) -> None:
    person_id = await add(auth)
    session_id, token = await auth.open_local_session(person_id)
    assert (await auth.prove(token)).session_id == session_id
    assert [one.device for one in await auth.sessions.of(person_id)] == ["command line"]
    await auth.end_session(session_id)
    with pytest.raises(Unproven):
        await auth.prove(token)


async def test_secrets_do_not_show(auth: Auth) -> None:
    await add(auth)
    tokens = await sign_in(auth)
    shown = repr(tokens)
    for secret in (tokens.access_token, tokens.refresh_token, tokens.device_token or "?"):
        assert secret not in shown
