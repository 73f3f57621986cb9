"""Accounts: the first admin, invitations, adding people, changing them, forgetting them."""

import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from mongars.auth import names, store
from mongars.auth.caller import Caller, Role
from mongars.auth.keys import Keys
from mongars.auth.passwords import Passwords
from mongars.auth.person import Account, InvitationRecord, PersonRecord, Shown
from mongars.auth.settings import AuthSettings
from mongars.auth.tables import invitations, one_time_codes, setup_codes, users
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Conflict, Forbidden, Missing
from mongars.ids import new_id

Forget = Callable[[Writing, str], Awaitable[None]]
ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
INVITED = timedelta(days=7)
KEPT = timedelta(days=90)
"""How long a used or ended invitation stays in the list."""


class Accounts:
    """People, as they are added, changed and removed."""

    def __init__(
        self,
        settings: AuthSettings,
        database: Database,
        keys: Keys,
        passwords: Passwords,
        data_dir: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._database = database
        self._keys = keys
        self._passwords = passwords
        self._file = data_dir / "setup-code"
        self._clock = clock
        self._forget: list[Forget] = []

    def on_delete(self, forget: Forget) -> None:
        """Run `forget` when a person is deleted, in the same transaction; the last told runs first."""
        self._forget.append(forget)

    async def setup_code(self) -> str | None:
        """The one-time code for the first admin; `None` once there is somebody.

        The code lies in `setup-code` in the data directory (0600), and as a digest in the database:
        several servers may each have given out one, and the first that is used ends them all.
        """
        async with self._database.writing(SYSTEM) as w:
            if await store.has_admin(w):
                self._file.unlink(missing_ok=True)
                return None
            with contextlib.suppress(FileNotFoundError):
                code = self._file.read_text().strip()
                digest = await self._keys.digest("setup", code)
                known = sa.select(setup_codes).where(setup_codes.c.digest == digest)
                if code and await w.one(known) is not None:
                    self._file.chmod(0o600)
                    return code
            code = "-".join(_letters(5) for _ in range(4))
            await w.execute(
                sa.insert(setup_codes).values(
                    digest=await self._keys.digest("setup", code), created_at=self._clock()
                )
            )
            _write_private(self._file, code)
        return code

    async def set_up(self, code: str, username: str, password: str) -> PersonRecord:
        """Make the first admin. Raises `Conflict` when it is done, `Forbidden` for a wrong code."""
        digest = await self._keys.digest("setup", code.strip().upper())
        async with self._database.reading(SYSTEM) as r:
            if await store.has_admin(r):
                raise _set_up_already()
            if await r.one(sa.select(setup_codes).where(setup_codes.c.digest == digest)) is None:
                raise _wrong_code()
        username = names.checked(username)
        await self._passwords.check_strength(password, username)
        hashed = await self._passwords.hash(password)
        async with self._database.writing(SYSTEM) as w:
            given_out = await w.all(sa.delete(setup_codes).returning(setup_codes.c.digest))
            if await store.has_admin(w):
                raise _set_up_already()
            if digest not in {row.digest for row in given_out}:
                raise _wrong_code()
            made = await store.add_person(w, username, hashed, "admin", self._clock())
            w.on_commit(lambda: self._file.unlink(missing_ok=True))
        return made

    async def register(self, username: str, password: str, invitation: str | None) -> PersonRecord:
        """An account of one's own. Raises `Forbidden`, `Conflict`, `Invalid`."""
        if invitation is None and not self._settings.open_registration:
            raise Forbidden(
                "Registration is closed here; ask an admin for an invitation.",
                slug="registration-closed",
            )
        if invitation is not None:
            await self._invited(invitation)
        username = names.checked(username)
        await self._passwords.check_strength(password, username)
        hashed = await self._passwords.hash(password)
        async with self._database.writing(SYSTEM) as w:
            if not await store.has_admin(w):
                raise Conflict(
                    "The first admin comes first, with the set-up code.", slug="not-set-up"
                )
            role: Role = "user" if invitation is None else await self._use(w, invitation)
            made = await store.add_person(w, username, hashed, role, self._clock())
            if invitation is not None:
                digest = await self._keys.digest("invitation", invitation)
                await w.execute(
                    sa.update(invitations)
                    .where(invitations.c.digest == digest)
                    .values(used_by=made.id)
                )
        return made

    async def add(self, username: str, password: str, role: Role) -> PersonRecord:
        """Add somebody (an admin's work). Raises `Conflict`, `Invalid`."""
        username = names.checked(username)
        await self._passwords.check_strength(password, username)
        hashed = await self._passwords.hash(password)
        async with self._database.writing(SYSTEM) as w:
            made = await store.add_person(w, username, hashed, role, self._clock())
            if role == "admin":
                await w.execute(sa.delete(setup_codes))
                w.on_commit(lambda: self._file.unlink(missing_ok=True))
        return made

    async def has_admin(self) -> bool:
        """Whether the first admin is there."""
        async with self._database.reading(SYSTEM) as r:
            return await store.has_admin(r)

    async def people(self) -> list[PersonRecord]:
        """Everybody, by name."""
        async with self._database.reading(SYSTEM) as r:
            return [store.record(row) for row in await store.people(r)]

    async def person(self, person_id: str) -> PersonRecord:
        """One person. Raises `Missing`."""
        async with self._database.reading(SYSTEM) as r:
            return store.record(await store.by_id(r, person_id))

    async def named(self, username: str) -> PersonRecord:
        """The person called this. Raises `Missing`."""
        async with self._database.reading(SYSTEM) as r:
            row = await store.by_name(r, username)
        if row is None:
            raise Missing(f"There is nobody called {username}.")
        return store.record(row)

    async def account(self, person_id: str) -> Account:
        """One's own account. Raises `Missing`."""
        async with self._database.reading(person_id) as r:
            row = await store.by_id(r, person_id)
            otp = await r.one(
                sa.select(one_time_codes.c.owner_id).where(
                    one_time_codes.c.owner_id == person_id,
                    one_time_codes.c.confirmed_at.is_not(None),
                )
            )
        return Account(
            row.id,
            row.username,
            row.role,
            row.language,
            row.created_at,
            row.password_hash is not None,
            otp is not None,
        )

    async def rename(self, person_id: str, username: str) -> None:
        """Change the name somebody signs in with. Raises `Conflict`, `Invalid`."""
        username, folded = names.checked(username), names.fold(username.strip())
        async with self._database.writing(SYSTEM) as w:
            other = await store.by_name(w, folded)
            if other is not None and other.id != person_id:
                raise Conflict("This name is taken.", slug="name-taken")
            await store.change(w, person_id, username=username, folded=names.fold(username))

    async def set_language(self, person_id: str, language: str | None) -> None:
        """Keep the language in which the page is shown to somebody."""
        async with self._database.writing(person_id) as w:
            await store.change(w, person_id, language=language)

    async def set_password(self, person_id: str, password: str, *, keep: str | None = None) -> None:
        """A new password; ends every session but `keep`. Raises `Invalid` for a weak one."""
        loc = "password" if keep is None else "new_password"
        person = await self.person(person_id)
        await self._passwords.check_strength(password, person.username, loc=loc)
        hashed = await self._passwords.hash(password)
        async with self._database.writing(SYSTEM) as w:
            values = {"password_hash": hashed} | ({} if keep else {"epoch": users.c.epoch + 1})
            await store.change(w, person_id, **values)
            await store.end_sessions(w, person_id, but=keep)

    async def set_role(self, person_id: str, role: Role) -> PersonRecord:
        """Change what somebody may do. Raises `Conflict` for the last admin."""
        async with self._database.writing(SYSTEM) as w:
            if role != "admin":
                await store.keep_an_admin(w, person_id)
            await store.change(w, person_id, role=role)
            return store.record(await store.by_id(w, person_id))

    async def set_disabled(self, person_id: str, disabled: bool) -> PersonRecord:
        """Keep somebody out, at once, or let them in again. Raises `Conflict` for the last admin."""
        async with self._database.writing(SYSTEM) as w:
            if disabled:
                await store.keep_an_admin(w, person_id)
                await store.end_sessions(w, person_id)
            await store.change(w, person_id, disabled=disabled, epoch=users.c.epoch + 1)
            return store.record(await store.by_id(w, person_id))

    async def delete(self, person_id: str) -> None:
        """Remove somebody and everything of theirs, in one transaction. Raises `Conflict`."""
        async with self._database.writing(SYSTEM) as w:
            await store.by_id(w, person_id)
            await store.keep_an_admin(w, person_id, going=True)
            for forget in reversed(self._forget):
                await forget(w, person_id)
            await store.forget(w, person_id)

    async def invite(
        self, caller: Caller, role: Role, note: str | None, lasts: timedelta = INVITED
    ) -> tuple[InvitationRecord, Shown]:
        """An invitation, and the code to give away; it makes one account."""
        at, shown = self._clock(), Shown(new_id(), f"inv_{secrets.token_urlsafe(24)}")
        made = InvitationRecord(shown.id, role, note, at, at + lasts, None, None)
        async with self._database.writing(SYSTEM) as w:
            await w.execute(
                sa.insert(invitations).values(
                    id=made.id,
                    digest=await self._keys.digest("invitation", shown.secret),
                    role=role,
                    note=note,
                    created_by=caller.id,
                    created_at=at,
                    expires_at=made.expires_at,
                )
            )
        return made, shown

    async def invitations(self) -> list[InvitationRecord]:
        """Every invitation, the newest first."""
        async with self._database.reading(SYSTEM) as r:
            rows = await r.all(sa.select(invitations).order_by(invitations.c.id.desc()))
        return [
            InvitationRecord(
                row.id,
                row.role,
                row.note,
                row.created_at,
                row.expires_at,
                row.used_at,
                row.used_by,
            )
            for row in rows
        ]

    async def uninvite(self, invitation_id: str) -> None:
        """Take an invitation back. Raises `Missing`."""
        statement = sa.delete(invitations).where(invitations.c.id == invitation_id)
        async with self._database.writing(SYSTEM) as w:
            if await w.one(statement.returning(invitations.c.id)) is None:
                raise Missing("There is no such invitation.")

    async def sweep(self, w: Writing, at: datetime) -> None:
        """Remove invitations that ended long ago."""
        await w.execute(sa.delete(invitations).where(invitations.c.expires_at < at - KEPT))

    async def _invited(self, invitation: str) -> None:
        """Raises `Forbidden` for an invitation that is not good, before anything costly is done."""
        digest = await self._keys.digest("invitation", invitation)
        async with self._database.reading(SYSTEM) as r:
            good = await r.one(
                sa.select(invitations.c.id).where(
                    invitations.c.digest == digest,
                    invitations.c.used_at.is_(None),
                    invitations.c.expires_at > self._clock(),
                )
            )
        if good is None:
            raise _not_invited()

    async def _use(self, w: Writing, invitation: str) -> Role:
        at = self._clock()
        row = await w.one(
            sa.update(invitations)
            .where(
                invitations.c.digest == await self._keys.digest("invitation", invitation),
                invitations.c.used_at.is_(None),
                invitations.c.expires_at > at,
            )
            .values(used_at=at)
            .returning(invitations.c.role)
        )
        if row is None:
            raise _not_invited()
        role: Role = row.role
        return role


def _set_up_already() -> Conflict:
    return Conflict("The first admin is there already; sign in.", slug="set-up-already")


def _wrong_code() -> Forbidden:
    return Forbidden(
        "This is not the set-up code; it was printed by `mongars serve`, and lies in the file"
        " setup-code in the data directory.",
        slug="setup-code-wrong",
    )


def _not_invited() -> Forbidden:
    return Forbidden("This invitation was used, or has ended.", slug="invitation-invalid")


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))


def _write_private(path: Path, text: str) -> None:
    """Write a file that is its owner's alone from its first byte on."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(f"{text}\n")
