"""Keys for programs: `mg_…`, shown once, for some scopes only."""

import secrets
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mongars.auth.caller import ALL_SCOPES, Caller, Scope
from mongars.auth.keys import Keys
from mongars.auth.person import ApiKeyRecord, Shown
from mongars.auth.sessions import scopes_of, wrong_token
from mongars.auth.tables import api_keys, users
from mongars.database import SYSTEM, Database
from mongars.errors import Conflict, Forbidden, Missing, Unavailable
from mongars.ids import new_id

PREFIX = "mg_"
SHOWN_CHARS = 10
MOST = 50
USUAL: tuple[Scope, ...] = ("chat", "read", "memory")
"""The scopes of a key that was asked for without any."""
SEEN_EVERY = timedelta(minutes=10)
"""How coarse `last_used_at` is."""

_BY = sa.select(
    api_keys.c.id.label("key_id"),
    api_keys.c.scopes,
    api_keys.c.last_used_at,
    users.c.id,
    users.c.username,
    users.c.role,
    users.c.disabled,
).join(users, users.c.id == api_keys.c.owner_id)
_BY_DIGEST = _BY.where(api_keys.c.digest == sa.bindparam("digest_"))
_BY_ID = _BY.where(api_keys.c.id == sa.bindparam("id_"))


class ApiKeys:
    """Makes, proves and removes keys."""

    def __init__(self, database: Database, keys: Keys, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def make(self, caller: Caller, name: str, scopes: Collection[Scope]) -> Shown:
        """A new key. Raises `Forbidden` for scopes beyond the person's own."""
        if beyond := set(scopes) - scopes_of(caller.role):
            raise Forbidden(f"You cannot give a key the scope {min(beyond)}.")
        made = Shown(new_id(), PREFIX + secrets.token_urlsafe(32))
        async with self._database.writing(caller.id) as w:
            count = sa.select(sa.func.count()).where(api_keys.c.owner_id == caller.id)
            if await w.scalar(count) >= MOST:
                raise Conflict(f"Nobody needs more than {MOST} keys; remove one first.")
            await w.execute(
                sa.insert(api_keys).values(
                    id=made.id,
                    owner_id=caller.id,
                    name=name,
                    prefix=made.secret[:SHOWN_CHARS],
                    digest=await self._keys.digest("api-key", made.secret),
                    scopes=sorted(scopes),
                    created_at=self._clock(),
                )
            )
        return made

    async def prove(self, key: str) -> Caller:
        """Who holds this key, for its scopes. Raises `Unproven`."""
        digest = await self._keys.digest("api-key", key)
        async with self._database.reading(SYSTEM) as r:
            row = (await r.execute(_BY_DIGEST, {"digest_": digest})).first()
        caller = _caller(row)
        at = self._clock()
        if row is not None and (row.last_used_at is None or at - row.last_used_at > SEEN_EVERY):
            await self._seen(row.key_id, at)
        return caller

    async def live(self, key_id: str) -> Caller:
        """The caller of a key that is still there. Raises `Unproven`."""
        async with self._database.reading(SYSTEM) as r:
            return _caller((await r.execute(_BY_ID, {"id_": key_id})).first())

    async def of(self, person_id: str) -> list[ApiKeyRecord]:
        """A person's keys, the newest first."""
        statement = (
            sa.select(api_keys)
            .where(api_keys.c.owner_id == person_id)
            .order_by(api_keys.c.id.desc())
        )
        async with self._database.reading(person_id) as r:
            return [
                ApiKeyRecord(
                    row.id, row.name, row.prefix, row.scopes, row.created_at, row.last_used_at
                )
                for row in await r.all(statement)
            ]

    async def remove(self, person_id: str, key_id: str) -> None:
        """From now on it opens nothing. Raises `Missing`."""
        statement = (
            sa.delete(api_keys)
            .where(api_keys.c.id == key_id, api_keys.c.owner_id == person_id)
            .returning(api_keys.c.id)
        )
        async with self._database.writing(person_id) as w:
            if await w.one(statement) is None:
                raise Missing("There is no such key.")

    async def _seen(self, key_id: str, at: datetime) -> None:
        used = sa.update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at)
        try:
            async with self._database.writing(SYSTEM) as w:
                await w.execute(used)
        except Unavailable:  # reading goes on where writing cannot; the next use tells again
            return


def _caller(row: Any) -> Caller:
    if row is None or row.disabled:
        raise wrong_token()
    scopes = ALL_SCOPES & set(row.scopes) & scopes_of(row.role)
    return Caller(row.id, row.username, row.role, scopes, key_id=row.key_id)
