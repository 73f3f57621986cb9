"""Who may do what: the organ's main class."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mongars.auth import names, store
from mongars.auth.accounts import Accounts, Forget
from mongars.auth.api_keys import PREFIX, ApiKeys
from mongars.auth.caller import Caller, Role
from mongars.auth.challenges import Challenges
from mongars.auth.devices import Devices
from mongars.auth.keys import Keys
from mongars.auth.oidc import OpenId
from mongars.auth.otp import OneTimeCodes
from mongars.auth.passkeys import Passkeys
from mongars.auth.passwords import Passwords
from mongars.auth.person import PersonRecord, Source, Tokens
from mongars.auth.sessions import LOCAL, Opened, Sessions
from mongars.auth.settings import AuthSettings
from mongars.auth.tables import users
from mongars.auth.throttle import Rule, Throttle, network
from mongars.database import SYSTEM, Database, migrate
from mongars.errors import Fault, Forbidden, Unavailable, Unproven
from mongars.ids import now

CODE = "sign-in-code"
PER_DEVICE = 10
"""Wrong tries of a device that has signed in before."""
CODES_PER_PERSON = 10
"""Wrong one-time codes after the right password, from devices that are not known."""
ACCOUNTS_PER_SOURCE = 20
"""Accounts that one source may try to make in an hour."""


class Auth:
    """Proves who is asking; the parts look after people, sessions, keys and second factors."""

    def __init__(
        self,
        settings: AuthSettings,
        database: Database,
        data_dir: Path,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._database = database
        self.keys = Keys(settings, database, clock)
        self.passwords = Passwords(settings)
        self.throttle = Throttle(database, self.keys, clock)
        self.devices = Devices(self.keys)
        self.accounts = Accounts(settings, database, self.keys, self.passwords, data_dir, clock)
        self.sessions = Sessions(settings, database, self.keys, clock)
        self.api_keys = ApiKeys(database, self.keys, clock)
        self.otp = OneTimeCodes(database, self.keys, clock)
        self.challenges = Challenges(database, self.keys, clock)
        self.passkeys = Passkeys(database, self.challenges, clock)
        self.openid = OpenId(settings, database, self.challenges, clock)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: AuthSettings,
        database: Database,
        data_dir: Path,
        clock: Callable[[], datetime] = now,
    ) -> AsyncGenerator["Auth"]:
        """Open it; the keys are read now if the database is there, else when it is."""
        auth = cls(settings, database, data_dir, clock)
        if await _is_migrated(database):
            await auth.keys.ready()
        yield auth

    # Proving

    async def prove(self, token: str) -> Caller:
        """Who holds this access token or API key. Raises `Unproven`."""
        if token.startswith(PREFIX):
            return await self.api_keys.prove(token)
        return await self.sessions.prove(token)

    async def check(self, caller: Caller) -> Caller:
        """The same caller as of now, for what lives longer than a request. Raises `Unproven`."""
        if caller.session_id is not None:
            return await self.sessions.live(caller.session_id)
        assert caller.key_id is not None
        return await self.api_keys.live(caller.key_id)

    async def make_ticket(self, caller: Caller) -> str:
        """A ticket that proves this caller once, within 60 s."""
        return (await self.sessions.ticket(caller)).secret

    async def redeem_ticket(self, ticket: str) -> Caller:
        """The caller who made this ticket, which is used up. Raises `Unproven`."""
        session_id, key_id = await self.sessions.use_ticket(ticket)
        if session_id is not None:
            return await self.sessions.live(session_id)
        return await self.api_keys.live(key_id or "")

    # Signing in

    async def sign_in(
        self, username: str, password: str, otp: str | None, source: Source
    ) -> Tokens:
        """Exchange a password, and a code where the person has them on, for tokens.

        Raises `Unproven` (`wrong-password`, `otp-wrong`), `Forbidden` (`otp-required`,
        `person-disabled`), `Busy`. Known and unknown names take the same time.
        """
        async with self._database.reading(SYSTEM) as r:
            row = await store.by_name(r, username)
        device = await self.devices.known(row, source.device_token)
        rules = self._rules(username, source, device)
        await self.throttle.take(rules)
        kept = row.password_hash if row is not None else None
        right, fresh = await self.passwords.verify(password, kept)
        if row is None or not right:
            raise _wrong()
        await self._second_factor(row, otp, rules, device)
        async with self._database.writing(SYSTEM) as w:
            now_kept = await w.scalar(sa.select(users.c.password_hash).where(users.c.id == row.id))
            if now_kept != kept:  # changed, or deleted, while it was being compared
                raise _wrong()
            if fresh is not None:
                await store.change(w, row.id, password_hash=fresh)
            await self.throttle.give_back(w, rules, clear=True)
            opened = await self.sessions.open(w, row.id, "password", source)
        return await self._told(row, opened, device)

    async def sign_in_proved(self, person_id: str, way: str, source: Source) -> Tokens:
        """Tokens for a person whom a passkey or a provider has proved. Raises `Forbidden`."""
        async with self._database.writing(SYSTEM) as w:
            row = await w.one(sa.select(users).where(users.c.id == person_id))
            if row is None:
                raise Unproven("This account is gone.", slug="account-gone")
            if row.disabled:
                raise _disabled()
            opened = await self.sessions.open(w, person_id, way, source)
        return await self._told(row, opened, None)

    async def sign_in_code(self, person_id: str) -> str:
        """A code that stands for a person a provider has just proved: once, within a minute."""
        facts = {"person_id": person_id}
        return await self.challenges.keep(CODE, facts, lasts=timedelta(seconds=60))

    async def redeem_sign_in_code(self, code: str) -> str:
        """The person that `sign_in_code` stood for. Raises `Unproven`."""
        return str((await self.challenges.take(CODE, code))["person_id"])

    async def check_password(self, caller: Caller, password: str) -> None:
        """Raises `Forbidden` unless it is the caller's own password; `Busy` after wrong tries."""
        rules = [Rule(f"own:{caller.id}:{caller.session_id}", self._settings.tries)]
        await self.throttle.take(rules)
        async with self._database.reading(SYSTEM) as r:
            row = await store.by_id(r, caller.id)
        right, _fresh = await self.passwords.verify(password, row.password_hash)
        if not right:
            raise Forbidden("This is not your password.", slug="wrong-password")
        async with self._database.writing(SYSTEM) as w:
            await self.throttle.give_back(w, rules, clear=True)

    async def turn_off_otp(self, caller: Caller, code: str) -> None:
        """Turn one-time codes off with one. Raises `Forbidden` for a wrong one, `Busy`."""
        rules = [Rule(f"own-otp:{caller.id}", self._settings.tries)]
        await self.throttle.take(rules)
        if not await self.otp.turn_off(caller.id, code):
            raise Forbidden("This is not the code right now.", slug="otp-wrong")
        async with self._database.writing(SYSTEM) as w:
            await self.throttle.give_back(w, rules, clear=True)

    async def reset_otp(self, person_id: str) -> None:
        """Forget the second factor of somebody who lost it (an admin's work). Raises `Missing`."""
        async with self._database.writing(SYSTEM) as w:
            await store.by_id(w, person_id)
            await self.otp.remove(w, person_id)

    async def register(
        self, username: str, password: str, invitation: str | None, source: Source
    ) -> PersonRecord:
        """An account of one's own; a source may try so often. See `Accounts.register`."""
        await self.throttle.take([Rule(f"register:{network(source.address)}", ACCOUNTS_PER_SOURCE)])
        return await self.accounts.register(username, password, invitation)

    # What the command line does for whoever may read the data directory

    async def add_person(
        self, username: str, password: str, *, role: Role = "user"
    ) -> PersonRecord:
        """Add somebody. Raises `Conflict`, `Invalid`."""
        return await self.accounts.add(username, password, role)

    async def people(self) -> list[PersonRecord]:
        """Everybody, by name."""
        return await self.accounts.people()

    async def set_password(self, username: str, password: str) -> None:
        """Set somebody's password and end all their sessions. Raises `Missing`, `Invalid`."""
        await self.accounts.set_password((await self.accounts.named(username)).id, password)

    async def disable(self, username: str) -> None:
        """Keep somebody out, at once. Raises `Missing`, `Conflict`."""
        await self.accounts.set_disabled((await self.accounts.named(username)).id, True)

    async def enable(self, username: str) -> None:
        """Let somebody in again. Raises `Missing`."""
        await self.accounts.set_disabled((await self.accounts.named(username)).id, False)

    async def set_role(self, username: str, role: Role) -> None:
        """Change what somebody may do. Raises `Missing`, `Conflict`."""
        await self.accounts.set_role((await self.accounts.named(username)).id, role)

    async def open_local_session(self, person_id: str) -> tuple[str, str]:
        """A session of a quarter of an hour for the command line: its id and access token."""
        source = Source("local", "command line")
        async with self._database.writing(SYSTEM) as w:
            await store.by_id(w, person_id)
            opened = await self.sessions.open(w, person_id, "local", source, lasts=LOCAL)
        tokens = await self.sessions.tokens(opened)
        return tokens.session_id, tokens.access_token

    async def end_session(self, session_id: str) -> None:
        """End a session; one that has ended already is no fault."""
        async with self._database.writing(SYSTEM) as w:
            await store.end_session(w, session_id)

    # What the body and the worker ask

    async def setup_code(self) -> str | None:
        """The one-time code for the first admin; `None` once there is somebody."""
        if not await _is_migrated(self._database):
            return None
        return await self.accounts.setup_code()

    async def rotate_keys(self) -> str:
        """Sign access tokens with a new key from now on; returns its id."""
        return await self.keys.rotate()

    def on_delete(self, forget: Forget) -> None:
        """Have `forget(w, owner_id)` run when a person is deleted, in the same transaction.

        The organ that was told last runs first: what stands above is removed before what it uses.
        """
        self.accounts.on_delete(forget)

    async def sweep(self, at: datetime) -> None:
        """Remove what has ended by itself."""
        async with self._database.writing(SYSTEM) as w:
            await store.sweep(w, at)
            await self.throttle.sweep(w, at)
            await self.keys.sweep(w, at)
            await self.accounts.sweep(w, at)

    def _rules(self, username: str, source: Source, device: str | None) -> list[Rule]:
        """What a try to sign in counts against; see docs/decisions/020-throttling.md."""
        if device is not None:
            return [Rule(f"device:{device}", PER_DEVICE)]
        name, where = f"name:{names.fold(username)}", network(source.address)
        return [
            Rule(
                f"{name}@{where}",
                self._settings.tries,
                strict_key=name,
                strict_from=self._settings.tries_per_name,
            ),
            Rule(f"source:{where}", self._settings.tries_per_source),
            Rule(name, None),
        ]

    async def _second_factor(
        self, row: Any, code: str | None, rules: list[Rule], device: str | None
    ) -> None:
        """Raises what keeps a person with the right password out; a wrong code counts as a try."""
        own = [] if device is not None else [Rule(f"otp:{row.id}", CODES_PER_PERSON)]
        if code and own:
            await self.throttle.take(own)
        async with self._database.writing(SYSTEM) as w:
            outcome = await self.otp.use(w, row.id, code)
            refused = _refused(row, outcome)
            if outcome != "wrong":
                await self.throttle.give_back(w, own if code else [], clear=True)
            if refused is not None and outcome != "wrong":
                await self.throttle.give_back(w, rules)
        if refused is not None:
            raise refused

    async def _told(self, row: Any, opened: Opened, device: str | None) -> Tokens:
        tokens = await self.sessions.tokens(opened)
        return Tokens(
            tokens.session_id,
            tokens.access_token,
            tokens.refresh_token,
            tokens.expires_in,
            await self.devices.token(row, device),
        )


def _refused(row: Any, outcome: str) -> Fault | None:
    error = {"error": "invalid_grant"}
    if row.disabled:
        return _disabled()
    if outcome == "missing":
        return Forbidden("A one-time code is needed too.", slug="otp-required", extra=error)
    if outcome == "wrong":
        return Unproven("This one-time code is not right.", slug="otp-wrong", extra=error)
    return None


def _wrong() -> Unproven:
    return Unproven(
        "The name or the password is not right.",
        slug="wrong-password",
        extra={"error": "invalid_grant"},
    )


def _disabled() -> Forbidden:
    return Forbidden(
        "This account is switched off; ask an admin.",
        slug="person-disabled",
        extra={"error": "invalid_grant"},
    )


async def _is_migrated(database: Database) -> bool:
    """Whether the tables are there; a database that is away is one whose tables are not."""
    try:
        async with database.reading(SYSTEM):
            return await migrate.current(database) == migrate.newest()
    except Unavailable:
        return False
