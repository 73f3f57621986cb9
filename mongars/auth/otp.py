"""A second factor: one-time codes from an app (TOTP, RFC 6238), and recovery codes for lost phones."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import pyotp
import sqlalchemy as sa

from mongars.auth.keys import Keys
from mongars.auth.tables import one_time_codes, recovery_codes
from mongars.database import Database, Reading, Writing
from mongars.errors import Conflict, FieldFault, Invalid, Missing
from mongars.ids import now

STEP_S = 30
DRIFT = 1
"""Steps that a phone's clock may be off, either way."""
RECOVERY_CODES = 10
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
Outcome = Literal["off", "right", "missing", "wrong"]


@dataclass(frozen=True)
class Enrolment:
    """What an app needs to know to make codes."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


class OneTimeCodes:
    """Turning the second factor on and off, and using codes, each at most once."""

    def __init__(self, database: Database, keys: Keys, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def start(self, person_id: str, username: str) -> Enrolment:
        """A new secret; it counts once a code made with it is confirmed. Raises `Conflict`."""
        secret = pyotp.random_base32()
        sealed = await self._keys.seal(f"otp:{person_id}", secret.encode())
        async with self._database.writing(person_id) as w:
            row = await _row(w, person_id)
            if row is not None and row.confirmed_at is not None:
                raise Conflict("One-time codes are on already; turn them off first.")
            await w.execute(sa.delete(one_time_codes).where(one_time_codes.c.owner_id == person_id))
            await w.execute(
                sa.insert(one_time_codes).values(
                    owner_id=person_id, sealed=sealed, last_step=0, created_at=self._clock()
                )
            )
        uri = pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name="monGARS")
        return Enrolment(secret, uri)

    async def confirm(self, person_id: str, code: str) -> list[str]:
        """Turn it on; returns the recovery codes, shown this once. Raises `Invalid`, `Missing`."""
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
        async with self._database.writing(person_id) as w:
            row = await _row(w, person_id)
            if row is None or row.confirmed_at is not None:
                raise Missing("Nothing waits to be confirmed; start first.")
            if not await self._use_step(w, person_id, code):
                fault = FieldFault(("body", "code"), "this is not the code right now")
                raise Invalid("This is not the code right now.", errors=[fault])
            await w.execute(
                sa.update(one_time_codes)
                .where(one_time_codes.c.owner_id == person_id)
                .values(confirmed_at=self._clock())
            )
            await w.execute(sa.delete(recovery_codes).where(recovery_codes.c.owner_id == person_id))
            rows = [
                {"owner_id": person_id, "digest": await self._recovery_digest(person_id, one)}
                for one in codes
            ]
            await w.execute(sa.insert(recovery_codes), rows)
        return codes

    async def turn_off(self, person_id: str, code: str) -> bool:
        """Turn it off with a code; whether it was right. Raises `Missing` when it is not on."""
        async with self._database.writing(person_id) as w:
            match await self.use(w, person_id, code):
                case "off":
                    raise Missing("One-time codes are not on.")
                case "right":
                    await self.remove(w, person_id)
                    return True
                case _:
                    return False

    async def remove(self, w: Writing, person_id: str) -> None:
        """Forget the second factor of a person who lost it (an admin's work)."""
        for table in (recovery_codes, one_time_codes):
            await w.execute(sa.delete(table).where(table.c.owner_id == person_id))

    async def is_on(self, r: Reading, person_id: str) -> bool:
        """Whether this person has to give a code."""
        row = await _row(r, person_id)
        return row is not None and row.confirmed_at is not None

    async def use(self, w: Writing, person_id: str, code: str | None) -> Outcome:
        """Use up a code of the app, or a recovery code."""
        if not await self.is_on(w, person_id):
            return "off"
        if not code:
            return "missing"
        if await self._use_step(w, person_id, code):
            return "right"
        used = await w.one(
            sa.delete(recovery_codes)
            .where(
                recovery_codes.c.owner_id == person_id,
                recovery_codes.c.digest == await self._recovery_digest(person_id, code),
            )
            .returning(recovery_codes.c.owner_id)
        )
        return "right" if used is not None else "wrong"

    async def _use_step(self, w: Writing, person_id: str, code: str) -> bool:
        """Whether the code belongs to a moment around now that is later than the last one used."""
        row = await _row(w, person_id)
        if row is None:
            return False
        secret = await self._keys.unseal(f"otp:{person_id}", bytes(row.sealed))
        totp = pyotp.TOTP(secret.decode(), interval=STEP_S)
        given, this = code.replace(" ", ""), int(self._clock().timestamp()) // STEP_S
        for step in range(this - DRIFT, this + DRIFT + 1):
            expected = totp.generate_otp(step)
            if secrets.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
                used = await w.one(
                    sa.update(one_time_codes)
                    .where(
                        one_time_codes.c.owner_id == person_id, one_time_codes.c.last_step < step
                    )
                    .values(last_step=step)
                    .returning(one_time_codes.c.owner_id)
                )
                return used is not None
        return False

    async def _recovery_digest(self, person_id: str, code: str) -> str:
        plain = "".join(char for char in code.lower() if char.isalnum())
        return await self._keys.digest("recovery", f"{person_id}:{plain}")


async def _row(r: Reading, person_id: str) -> sa.Row[tuple[object, ...]] | None:
    return await r.one(sa.select(one_time_codes).where(one_time_codes.c.owner_id == person_id))


def _recovery_code() -> str:
    """Ten characters (about 49 bits), as in `k3f9x-2mbqt`."""
    text = "".join(secrets.choice(ALPHABET) for _ in range(10))
    return f"{text[:5]}-{text[5:]}"
