"""Signing in, and what keeps strangers from it without keeping the owner out."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pyotp
import pytest

from mongars.auth import Auth, AuthSettings, Source
from mongars.database import Database
from mongars.errors import Busy, Fault, Forbidden, Unproven
from tests.auth.conftest import ELSEWHERE, HERE, PASSWORD, Clock, add


async def fail(auth: Auth, source: Source, name: str = "alice", times: int = 5) -> None:
    for _ in range(times):
        with pytest.raises(Unproven):
            await auth.sign_in(name, "wrong-password", None, source)


async def turn_otp_on(auth: Auth, person_id: str, clock: Clock) -> tuple[pyotp.TOTP, list[str]]:
    started = await auth.otp.start(person_id, "alice")
    totp = pyotp.TOTP(started.secret)
    recovery = await auth.otp.confirm(person_id, totp.at(clock()))
    clock.forward(seconds=30)
    return totp, recovery


async def test_the_name_counts_in_any_case(auth: Auth) -> None:
    await add(auth, "Alice")
    assert await auth.sign_in("aLICE", PASSWORD, None, HERE)


async def test_unknown_and_known_names_cost_the_same_work_and_get_the_same_answer(
    auth: Auth,
) -> None:
    await add(auth)
    told = []
    for name in ("alice", "nobody"):
        before = auth.passwords.verified
        with pytest.raises(Unproven) as refused:
            await auth.sign_in(name, "wrong-password", None, HERE)
        told.append((refused.value.detail, refused.value.problem, dict(refused.value.extra)))
        assert auth.passwords.verified - before == 1
    assert told[0] == told[1]


async def test_too_many_wrong_tries_have_to_wait_longer_and_longer(
    auth: Auth, clock: Clock
) -> None:
    await add(auth)
    await fail(auth, ELSEWHERE)
    with pytest.raises(Busy) as refused:
        await auth.sign_in("alice", PASSWORD, None, ELSEWHERE)
    assert refused.value.retry_after_s == 30
    clock.forward(seconds=31)
    await fail(auth, ELSEWHERE, times=1)
    with pytest.raises(Busy) as refused:
        await auth.sign_in("alice", PASSWORD, None, ELSEWHERE)
    assert refused.value.retry_after_s == 60
    clock.forward(seconds=61)
    assert await auth.sign_in("alice", PASSWORD, None, ELSEWHERE)
    await fail(auth, ELSEWHERE, times=4)
    assert await auth.sign_in("alice", PASSWORD, None, ELSEWHERE)


async def test_wrong_tries_are_forgotten_after_an_hour(auth: Auth, clock: Clock) -> None:
    await add(auth)
    for _ in range(3):
        await fail(auth, ELSEWHERE, times=4)
        clock.forward(minutes=61)


async def test_a_hundred_tries_at_once_count_as_a_hundred(auth: Auth) -> None:
    await add(auth)
    tries = [auth.sign_in("alice", "wrong-password", None, ELSEWHERE) for _ in range(20)]
    told = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, Unproven) for one in told) == 5
    assert sum(isinstance(one, Busy) for one in told) == 15


async def test_waiting_lasts_across_restarts_and_replicas(
    auth: Auth, database: Database, tmp_path: Path, clock: Clock
) -> None:
    await add(auth)
    await fail(auth, ELSEWHERE)
    async with Auth.open(AuthSettings(), database, tmp_path, clock) as replica:
        with pytest.raises(Busy):
            await replica.sign_in("alice", PASSWORD, None, ELSEWHERE)


async def test_a_stranger_cannot_keep_the_owner_out(auth: Auth, clock: Clock) -> None:
    await add(auth)
    known = await auth.sign_in("alice", PASSWORD, None, ELSEWHERE)
    for number in range(60):
        stranger = replace(ELSEWHERE, address=f"198.51.100.{number}")
        await fail(auth, stranger, times=1)
    with pytest.raises(Busy):  # above the name's threshold one wrong try is enough
        await auth.sign_in("alice", "wrong-password", None, stranger)
    assert await auth.sign_in("alice", PASSWORD, None, HERE), "a clean source gets in"
    await fail(auth, ELSEWHERE, name="mallory", times=5)
    with pytest.raises(Busy):
        await auth.sign_in("alice", PASSWORD, None, ELSEWHERE)
    device = replace(ELSEWHERE, device_token=known.device_token)
    assert await auth.sign_in("alice", PASSWORD, None, device), "a known device gets in"


async def test_one_source_that_tries_many_names_has_to_wait(auth: Auth) -> None:
    for number in range(30):
        await fail(auth, ELSEWHERE, name=f"name-{number}", times=1)
    with pytest.raises(Busy):
        await auth.sign_in("name-99", PASSWORD, None, ELSEWHERE)


async def test_a_device_token_is_good_for_its_person_only_and_not_for_guessing(
    auth: Auth,
) -> None:
    await add(auth)
    await add(auth, "bob")
    known = (await auth.sign_in("alice", PASSWORD, None, HERE)).device_token
    assert known is not None
    device = replace(ELSEWHERE, device_token=known)
    await fail(auth, device, name="bob")
    with pytest.raises(Busy):
        await auth.sign_in("bob", PASSWORD, None, device)
    await fail(auth, device, times=10)
    with pytest.raises(Busy):
        await auth.sign_in("alice", PASSWORD, None, device)
    await auth.set_password("alice", PASSWORD + "-new")
    stale = replace(ELSEWHERE, address="203.0.113.9", device_token=known)
    await fail(auth, stale)
    with pytest.raises(Busy):
        await auth.sign_in("alice", PASSWORD, None, stale)


async def test_a_disabled_person_is_out_at_once_and_told_so_only_with_the_right_password(
    auth: Auth,
) -> None:
    await add(auth)
    tokens = await auth.sign_in("alice", PASSWORD, None, HERE)
    await auth.disable("alice")
    for proof in (auth.prove(tokens.access_token), auth.sessions.refresh(tokens.refresh_token)):
        with pytest.raises(Unproven):
            await proof
    with pytest.raises(Forbidden, match="switched off"):
        await auth.sign_in("alice", PASSWORD, None, HERE)
    await fail(auth, HERE, times=1)
    await auth.enable("alice")
    with pytest.raises(Unproven):
        await auth.prove(tokens.access_token)
    assert await auth.sign_in("alice", PASSWORD, None, HERE)


async def test_one_time_codes_are_asked_for_and_each_is_good_once(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    totp, _recovery = await turn_otp_on(auth, person_id, clock)
    for _ in range(8):  # the right password without a code is not a wrong try
        with pytest.raises(Forbidden) as asked:
            await auth.sign_in("alice", PASSWORD, None, HERE)
    assert asked.value.problem == "otp-required"
    code = totp.at(clock())
    assert await auth.sign_in("alice", PASSWORD, code, HERE)
    with pytest.raises(Unproven) as replayed:
        await auth.sign_in("alice", PASSWORD, code, HERE)
    assert replayed.value.problem == "otp-wrong"
    clock.forward(seconds=60)
    assert await auth.sign_in("alice", PASSWORD, totp.at(clock(), counter_offset=-1), HERE), (
        "a slow phone"
    )
    with pytest.raises(Unproven):
        await auth.sign_in("alice", PASSWORD, totp.at(clock(), counter_offset=3), HERE)


async def test_an_older_code_is_not_good_after_a_newer_one(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    totp, _recovery = await turn_otp_on(auth, person_id, clock)
    clock.forward(seconds=60)
    assert await auth.sign_in("alice", PASSWORD, totp.at(clock()), HERE)
    with pytest.raises(Unproven):
        await auth.sign_in("alice", PASSWORD, totp.at(clock(), counter_offset=-1), HERE)


async def test_the_confirming_code_is_not_good_a_second_time(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    totp, _recovery = await turn_otp_on(auth, person_id, clock)
    clock.forward(seconds=-30)
    with pytest.raises(Unproven):
        await auth.sign_in("alice", PASSWORD, totp.at(clock()), HERE)


async def test_a_recovery_code_opens_once(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    _totp, recovery = await turn_otp_on(auth, person_id, clock)
    assert len(set(recovery)) == 10
    assert await auth.sign_in("alice", PASSWORD, recovery[0].upper(), HERE)
    with pytest.raises(Unproven):
        await auth.sign_in("alice", PASSWORD, recovery[0], HERE)
    assert await auth.sign_in("alice", PASSWORD, recovery[1].replace("-", ""), HERE)


async def test_wrong_codes_have_to_wait_wherever_they_come_from(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    await turn_otp_on(auth, person_id, clock)
    for number in range(10):
        source = replace(ELSEWHERE, address=f"203.0.113.{number}")
        with pytest.raises(Unproven):
            await auth.sign_in("alice", PASSWORD, "000000", source)
    with pytest.raises(Busy):
        await auth.sign_in("alice", PASSWORD, "000000", HERE)


async def test_one_time_codes_are_turned_off_with_a_code_only(auth: Auth, clock: Clock) -> None:
    person_id = await add(auth)
    totp, _recovery = await turn_otp_on(auth, person_id, clock)
    tokens = await auth.sign_in("alice", PASSWORD, totp.at(clock()), HERE)
    caller = await auth.prove(tokens.access_token)
    with pytest.raises(Forbidden):
        await auth.turn_off_otp(caller, "000000")
    clock.forward(seconds=30)
    await auth.turn_off_otp(caller, totp.at(clock()))
    assert await auth.sign_in("alice", PASSWORD, None, HERE)


async def test_the_secret_of_one_time_codes_is_not_readable_where_it_is_kept(
    auth: Auth, database: Database, clock: Clock
) -> None:
    import sqlalchemy as sa

    from mongars.auth.tables import one_time_codes
    from mongars.database import SYSTEM

    started = await auth.otp.start(await add(auth), "alice")
    async with database.reading(SYSTEM) as r:
        sealed = await r.scalar(sa.select(one_time_codes.c.sealed))
    assert started.secret.encode() not in bytes(sealed)
    assert started.secret not in repr(started)


async def test_the_owners_password_is_asked_for_with_patience_too(auth: Auth) -> None:
    await add(auth)
    caller = await auth.prove((await auth.sign_in("alice", PASSWORD, None, HERE)).access_token)
    await auth.check_password(caller, PASSWORD)
    kinds: list[type[Fault]] = []
    for _ in range(6):
        with pytest.raises(Fault) as refused:
            await auth.check_password(caller, "wrong")
        kinds.append(refused.type)
    assert kinds == [Forbidden] * 5 + [Busy]


async def test_what_has_ended_is_swept_away(auth: Auth, clock: Clock) -> None:
    await add(auth)
    await fail(auth, ELSEWHERE)
    clock.forward(days=40)
    await auth.sweep(clock())
    assert await auth.sign_in("alice", PASSWORD, None, ELSEWHERE)
