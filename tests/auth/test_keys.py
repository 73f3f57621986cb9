import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from pydantic import SecretStr

from mongars.auth import Auth, AuthSettings
from mongars.auth.keys import Keys
from mongars.auth.tables import signing_keys
from mongars.database import SYSTEM, Database
from mongars.errors import NotConfigured, Unproven
from tests.auth.conftest import HERE, PASSWORD, Clock, add


async def test_two_processes_that_start_at_once_make_one_key(
    database: Database, clock: Clock
) -> None:
    one, two = (Keys(AuthSettings(), database, clock) for _ in range(2))
    await asyncio.gather(one.ready(), two.ready())
    first, second = await asyncio.gather(one.signing(), two.signing())
    assert first.kid == second.kid
    assert await one.digest("x", "y") == await two.digest("x", "y") != await one.digest("z", "y")


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
async def test_keys_rotate_and_old_tokens_hold_until_they_end(
    database: Database, tmp_path: Path, clock: Clock, algorithm: str
) -> None:
    settings = AuthSettings(algorithm=algorithm)  # type: ignore[arg-type]
    async with (
        Auth.open(settings, database, tmp_path, clock) as auth,
        Auth.open(settings, database, tmp_path, clock) as replica,
    ):
        await add(auth)
        old = await auth.sign_in("alice", PASSWORD, None, HERE)
        await replica.prove(old.access_token)
        kid = await auth.rotate_keys()
        new = await auth.sessions.refresh(old.refresh_token)
        assert (await auth.keys.signing()).kid == kid
        assert (await replica.prove(new.access_token)).username == "alice"
        assert (await replica.prove(old.access_token)).username == "alice"
        published = {one["kid"]: one for one in await auth.keys.published()}
        assert (kid in published) == (algorithm == "RS256")
        assert all("d" not in one and one["use"] == "sig" for one in published.values())
        clock.forward(minutes=20)
        await auth.sweep(clock())
        async with database.reading(SYSTEM) as r:
            kept = await r.all(
                sa.select(signing_keys.c.kid).where(signing_keys.c.purpose != "root")
            )
        assert [row.kid for row in kept] == [kid]
        with pytest.raises(Unproven):
            await replica.prove(old.access_token)


async def test_changing_the_algorithm_signs_nobody_out(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    async with Auth.open(AuthSettings(), database, tmp_path, clock) as before:
        await add(before)
        tokens = await before.sign_in("alice", PASSWORD, None, HERE)
    async with Auth.open(AuthSettings(algorithm="RS256"), database, tmp_path, clock) as after:
        assert (await after.prove(tokens.access_token)).username == "alice"
        assert await after.keys.published()


async def test_with_a_secret_key_the_database_alone_holds_no_secret(
    database: Database, clock: Clock
) -> None:
    locked = AuthSettings(secret_key=SecretStr("a-key-of-the-operator"))
    digest = await Keys(locked, database, clock).digest("x", "y")
    assert await Keys(locked, database, clock).digest("x", "y") == digest
    for other in (AuthSettings(), AuthSettings(secret_key=SecretStr("another"))):
        with pytest.raises(NotConfigured, match="SECRET_KEY"):
            await Keys(other, database, clock).digest("x", "y")


async def test_what_is_sealed_can_be_read_again_and_only_for_its_purpose(
    database: Database, clock: Clock
) -> None:
    keys = Keys(AuthSettings(), database, clock)
    sealed = await keys.seal("otp:1", b"secret")
    assert b"secret" not in sealed
    assert await keys.unseal("otp:1", sealed) == b"secret"
    with pytest.raises(InvalidTag):
        await keys.unseal("otp:2", sealed)
    assert "Key=" not in repr(await keys.signing())
