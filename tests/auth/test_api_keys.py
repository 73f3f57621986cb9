import pytest

from mongars.auth import Auth, Caller
from mongars.errors import Forbidden, Missing, Unproven
from tests.auth.conftest import HERE, PASSWORD, Clock, add


async def signed_in(auth: Auth, name: str) -> Caller:
    return await auth.prove((await auth.sign_in(name, PASSWORD, None, HERE)).access_token)


async def test_a_key_proves_its_person_for_its_scopes_only(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    made = await auth.api_keys.make(await signed_in(auth, "alice"), "a script", ["read"])
    assert made.secret.startswith("mg_")
    assert made.secret not in repr(made)
    caller = await auth.prove(made.secret)
    assert (caller.id, caller.scopes, caller.session_id) == (person_id, {"read"}, None)
    [listed] = await auth.api_keys.of(person_id)
    assert (listed.prefix, listed.last_used_at) == (made.secret[:10], clock())
    first_used = clock()
    clock.forward(minutes=5)
    await auth.prove(made.secret)
    [listed] = await auth.api_keys.of(person_id)
    assert listed.last_used_at == first_used


async def test_a_removed_key_opens_nothing_and_only_its_owner_removes_it(auth: Auth) -> None:
    await add(auth)
    bob = await add(auth, "bob")
    caller = await signed_in(auth, "alice")
    made = await auth.api_keys.make(caller, "a script", ["read"])
    with pytest.raises(Missing):
        await auth.api_keys.remove(bob, made.id)
    ticket = await auth.make_ticket(await auth.prove(made.secret))
    await auth.api_keys.remove(caller.id, made.id)
    for proof in (auth.prove(made.secret), auth.redeem_ticket(ticket)):
        with pytest.raises(Unproven):
            await proof


async def test_a_key_never_does_more_than_its_person_may(auth: Auth) -> None:
    await add(auth, "root", admin=True)
    await add(auth)
    with pytest.raises(Forbidden):
        await auth.api_keys.make(await signed_in(auth, "alice"), "x", ["read", "admin"])
    made = await auth.api_keys.make(await signed_in(auth, "root"), "x", ["read", "admin"])
    assert "admin" in (await auth.prove(made.secret)).scopes
    await add(auth, "other", admin=True)
    await auth.set_role("root", "user")
    assert (await auth.prove(made.secret)).scopes == {"read"}
    await auth.disable("root")
    with pytest.raises(Unproven):
        await auth.prove(made.secret)
