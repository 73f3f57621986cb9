from typing import Any

import pytest

from mongars.auth import Auth, passkey_origins
from mongars.auth.passkeys import rp_id_of
from mongars.errors import Conflict, Fault, Invalid, Missing, Unproven
from tests.auth.authenticator import Authenticator
from tests.auth.conftest import HERE, Clock, add

HOST, ORIGIN = "chat.example.org", "https://chat.example.org"
ORIGINS = passkey_origins(HOST)


async def with_passkey(auth: Auth, device: Authenticator) -> str:
    person_id = await add(auth)
    options = await auth.passkeys.begin(person_id, "alice", HOST)
    await auth.passkeys.finish(person_id, "my phone", device.create(options), ORIGINS)
    return person_id


async def test_a_passkey_signs_its_person_in(auth: Auth, clock: Clock) -> None:
    device = Authenticator(ORIGIN)
    person_id = await with_passkey(auth, device)
    options = await auth.passkeys.begin_sign_in(HOST)
    assert options["userVerification"] == "required"
    answer = device.get(options)
    assert await auth.passkeys.finish_sign_in(answer, ORIGINS) == person_id
    tokens = await auth.sign_in_proved(person_id, "passkey", HERE)
    assert (await auth.prove(tokens.access_token)).id == person_id
    with pytest.raises(Unproven):
        await auth.passkeys.finish_sign_in(answer, ORIGINS)
    [listed] = await auth.passkeys.of(person_id)
    assert (listed.name, listed.rp_id, listed.last_used_at) == ("my phone", HOST, clock())


async def test_a_passkey_of_another_site_key_or_count_signs_nobody_in(auth: Auth) -> None:
    device = Authenticator(ORIGIN)
    await with_passkey(auth, device)

    async def tried(answer: dict[str, Any]) -> None:
        with pytest.raises(Unproven):
            await auth.passkeys.finish_sign_in(answer, ORIGINS)

    await tried(Authenticator(ORIGIN).get(await auth.passkeys.begin_sign_in(HOST)))
    await tried(device.get(await auth.passkeys.begin_sign_in(HOST), rp_id="evil.example.org"))
    await tried(device.get(await auth.passkeys.begin_sign_in("other.example.org")))
    device.origin = "https://evil.example.org"
    await tried(device.get(await auth.passkeys.begin_sign_in(HOST)))
    device.origin, device.flags = ORIGIN, 0x01
    await tried(device.get(await auth.passkeys.begin_sign_in(HOST)))
    device.flags = 0x05
    assert await auth.passkeys.finish_sign_in(
        device.get(await auth.passkeys.begin_sign_in(HOST)), ORIGINS
    )
    device.count = 0  # a copy of the device counts from where it was copied
    await tried(device.get(await auth.passkeys.begin_sign_in(HOST)))


async def test_an_answer_to_another_persons_challenge_is_refused(auth: Auth) -> None:
    bob = await add(auth, "bob")
    alice = await add(auth)
    options = await auth.passkeys.begin(alice, "alice", HOST)
    with pytest.raises(Unproven):
        await auth.passkeys.finish(bob, "x", Authenticator(ORIGIN).create(options), ORIGINS)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"response": 1},
        {"response": {"clientDataJSON": "e30"}},
        {"response": {"clientDataJSON": "é"}},
    ],
)
async def test_what_is_no_answer_is_told_so(auth: Auth, answer: dict[str, Any]) -> None:
    person_id = await add(auth)
    with pytest.raises(Invalid):
        await auth.passkeys.finish(person_id, "x", answer, ORIGINS)
    with pytest.raises(Fault):
        await auth.passkeys.finish_sign_in(answer, ORIGINS)


async def test_a_challenge_ends_after_minutes(auth: Auth, clock: Clock) -> None:
    device = Authenticator(ORIGIN)
    await with_passkey(auth, device)
    options = await auth.passkeys.begin_sign_in(HOST)
    clock.forward(minutes=6)
    with pytest.raises(Unproven, match="begin again"):
        await auth.passkeys.finish_sign_in(device.get(options), ORIGINS)


async def test_only_its_owner_removes_a_passkey(auth: Auth) -> None:
    device = Authenticator(ORIGIN)
    alice, bob = await with_passkey(auth, device), await add(auth, "bob")
    [listed] = await auth.passkeys.of(alice)
    with pytest.raises(Missing):
        await auth.passkeys.remove(bob, listed.id)
    await auth.passkeys.remove(alice, listed.id)
    with pytest.raises(Unproven):
        await auth.passkeys.finish_sign_in(
            device.get(await auth.passkeys.begin_sign_in(HOST)), ORIGINS
        )


def test_passkeys_are_for_names_and_an_address_is_told_why_not() -> None:
    assert rp_id_of("Chat.Example.org") == "chat.example.org"
    assert rp_id_of("localhost") == "localhost"
    for address in ("192.0.2.1", "[::1]", "::1"):
        with pytest.raises(Conflict, match="IP address"):
            rp_id_of(address)
