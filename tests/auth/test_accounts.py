import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from mongars.auth import Auth, AuthSettings
from mongars.auth.tables import sessions, users
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Conflict, Fault, Forbidden, Invalid, Missing, Unproven
from tests.auth.conftest import HERE, PASSWORD, Clock, add


async def test_the_setup_code_is_the_same_until_it_is_used_and_then_gone(
    auth: Auth, tmp_path: Path
) -> None:
    code = await auth.setup_code()
    assert code is not None
    assert await auth.setup_code() == code
    file = tmp_path / "setup-code"
    assert file.read_text().strip() == code
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Forbidden):
        await auth.accounts.set_up("WRONG", "root", PASSWORD)
    with pytest.raises(Invalid):
        await auth.accounts.set_up(code, "root", "weak")
    made = await auth.accounts.set_up(code.lower(), "root", PASSWORD)
    assert made.role == "admin"
    assert not file.exists()
    assert await auth.setup_code() is None
    with pytest.raises(Conflict):
        await auth.accounts.set_up(code, "another", PASSWORD)


async def test_an_ordinary_person_leaves_the_first_admin_to_be_made(auth: Auth) -> None:
    code = await auth.setup_code()
    await auth.add_person("bob", PASSWORD, role="user")
    assert await auth.setup_code() == code


async def test_a_setup_code_used_by_two_at_once_makes_one_admin(
    auth: Auth, database: Database, tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "other").mkdir()
    async with Auth.open(AuthSettings(), database, tmp_path / "other", clock) as replica:
        codes = await auth.setup_code(), await replica.setup_code()
        assert codes[0] != codes[1]
        told = await asyncio.gather(
            auth.accounts.set_up(codes[0] or "", "one", PASSWORD),
            replica.accounts.set_up(codes[1] or "", "two", PASSWORD),
            return_exceptions=True,
        )
    assert len([one for one in told if isinstance(one, Fault)]) == 1, told
    assert len(await auth.people()) == 1


async def test_a_name_is_taken_whatever_its_case(auth: Auth) -> None:
    await add(auth, "Alice")
    with pytest.raises(Conflict, match="taken"):
        await auth.add_person("ALICE", PASSWORD)


async def test_registration_is_closed_unless_opened(
    auth: Auth, database: Database, tmp_path: Path, clock: Clock
) -> None:
    await add(auth, "root", admin=True)
    with pytest.raises(Forbidden):
        await auth.register("bob", PASSWORD, None, HERE)
    settings = AuthSettings(open_registration=True)
    async with Auth.open(settings, database, tmp_path, clock) as open_auth:
        assert (await open_auth.register("bob", PASSWORD, None, HERE)).role == "user"


async def test_an_invitation_makes_one_account_and_ends(auth: Auth, clock: Clock) -> None:
    root = await add(auth, "root", admin=True)
    caller = await auth.prove((await auth.sign_in("root", PASSWORD, None, HERE)).access_token)
    _made, shown = await auth.accounts.invite(caller, "user", "for Bob")
    _late, ended = await auth.accounts.invite(caller, "user", None)
    assert shown.secret not in repr(shown)
    with pytest.raises(Conflict):
        await auth.register("root", PASSWORD, shown.secret, HERE)
    with pytest.raises(Invalid):
        await auth.register("bob", "weak", shown.secret, HERE)
    bob = await auth.register("bob", PASSWORD, shown.secret, HERE)
    with pytest.raises(Forbidden):
        await auth.register("carol", PASSWORD, shown.secret, HERE)
    listed = {one.id: one for one in await auth.accounts.invitations()}
    assert listed[shown.id].used_by == bob.id
    clock.forward(days=8)
    with pytest.raises(Forbidden):
        await auth.register("carol", PASSWORD, ended.secret, HERE)
    await auth.accounts.uninvite(ended.id)
    with pytest.raises(Missing):
        await auth.accounts.uninvite(ended.id)
    assert root


async def test_changing_a_password_ends_the_other_sessions(auth: Auth) -> None:
    person_id = await add(auth)
    here, there = [await auth.sign_in("alice", PASSWORD, None, HERE) for _ in range(2)]
    await auth.accounts.set_password(person_id, PASSWORD + "-new", keep=here.session_id)
    assert await auth.prove(here.access_token)
    with pytest.raises(Unproven):
        await auth.prove(there.access_token)
    with pytest.raises(Unproven):
        await auth.sign_in("alice", PASSWORD, None, HERE)
    await auth.set_password("ALICE", PASSWORD)
    with pytest.raises(Unproven):
        await auth.prove(here.access_token)


async def test_the_last_admin_stays(auth: Auth) -> None:
    root = await add(auth, "root", admin=True)
    await add(auth)
    for attempt in (
        auth.disable("root"),
        auth.set_role("root", "user"),
        auth.accounts.delete(root),
    ):
        with pytest.raises(Conflict, match="last admin"):
            await attempt
    await auth.set_role("alice", "admin")
    await auth.disable("root")
    assert [(one.username, one.role, one.disabled) for one in await auth.people()] == [
        ("alice", "admin", False),
        ("root", "admin", True),
    ]


async def test_the_only_person_may_go_and_then_set_up_begins_again(auth: Auth) -> None:
    root = await add(auth, "root", admin=True)
    await auth.accounts.delete(root)
    assert await auth.setup_code() is not None


async def test_deleting_somebody_is_total_and_all_or_nothing(
    auth: Auth, database: Database
) -> None:
    await add(auth, "root", admin=True)
    person_id = await add(auth)
    tokens = await auth.sign_in("alice", PASSWORD, None, HERE)
    caller = await auth.prove(tokens.access_token)
    await auth.api_keys.make(caller, "a key", ["read"])
    await auth.make_ticket(caller)
    await auth.otp.start(person_id, "alice")
    forgot: list[str] = []
    failing = True

    async def first(w: Writing, owner_id: str) -> None:
        forgot.append(f"first {owner_id}")

    async def last(w: Writing, owner_id: str) -> None:
        if failing:
            raise Conflict("not now")
        forgot.append(f"last {owner_id}")

    auth.on_delete(first)
    auth.on_delete(last)
    with pytest.raises(Conflict):
        await auth.accounts.delete(person_id)
    assert await auth.prove(tokens.access_token)
    failing = False
    await auth.accounts.delete(person_id)
    assert forgot == [f"last {person_id}", f"first {person_id}"]
    with pytest.raises(Unproven):
        await auth.prove(tokens.access_token)
    async with database.reading(SYSTEM) as r:
        for table in users.metadata.sorted_tables:
            if "owner_id" in table.c and table.c.owner_id.foreign_keys:
                assert await r.one(sa.select(table).where(table.c.owner_id == person_id)) is None
    with pytest.raises(Missing):
        await auth.accounts.delete(person_id)


async def test_renaming_keeps_names_apart(auth: Auth) -> None:
    alice = await add(auth)
    await add(auth, "bob")
    with pytest.raises(Conflict):
        await auth.accounts.rename(alice, "BOB")
    await auth.accounts.rename(alice, "ALICE")
    assert (await auth.accounts.account(alice)).username == "ALICE"


async def test_a_persons_transaction_sees_only_their_own_rows(
    auth: Auth, database: Database
) -> None:
    if database.dialect != "postgresql":
        return
    alice, bob = await add(auth), await add(auth, "bob")
    await auth.sign_in("bob", PASSWORD, None, HERE)
    async with database.reading(alice) as r:
        assert [row.id for row in await r.all(sa.select(users.c.id))] == [alice]
        assert await r.all(sa.select(sessions)) == []
    async with database.writing(alice) as w:
        found = await w.all(
            sa.update(users).where(users.c.id == bob).values(role="admin").returning(users.c.id)
        )
    assert found == []
