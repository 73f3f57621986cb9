"""What must be remembered between the two halves of a ceremony: once, for minutes, on any replica."""

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from mongars.auth.keys import Keys
from mongars.auth.tables import challenges
from mongars.database import SYSTEM, Database
from mongars.errors import Unproven


class Challenges:
    """Keeps facts under a random name; what is kept is sealed."""

    def __init__(self, database: Database, keys: Keys, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def keep(
        self,
        purpose: str,
        facts: Mapping[str, Any],
        *,
        lasts: timedelta,
        owner_id: str | None = None,
        name: str | None = None,
    ) -> str:
        """Keep facts; returns the name to ask for them with."""
        name = name or secrets.token_urlsafe(32)
        row = {
            "digest": await self._keys.digest(f"challenge:{purpose}", name),
            "purpose": purpose,
            "owner_id": owner_id,
            "sealed": await self._keys.seal(purpose, orjson.dumps(dict(facts))),
            "expires_at": self._clock() + lasts,
        }
        async with self._database.writing(SYSTEM) as w:
            await w.execute(sa.insert(challenges).values(row))
        return name

    async def take(self, purpose: str, name: str, *, owner_id: str | None = None) -> dict[str, Any]:
        """The facts, which are gone now. Raises `Unproven` for unknown, used and ended ones."""
        digest = await self._keys.digest(f"challenge:{purpose}", name)
        whose = challenges.c.owner_id
        mine = whose.is_(None) if owner_id is None else whose == owner_id
        async with self._database.writing(SYSTEM) as w:
            row = await w.one(
                sa.delete(challenges)
                .where(challenges.c.digest == digest, mine)
                .returning(challenges.c.sealed, challenges.c.expires_at)
            )
        if row is None or row.expires_at <= self._clock():
            raise Unproven(
                "This took too long, or was done already; begin again.", slug="begin-again"
            )
        facts: dict[str, Any] = orjson.loads(await self._keys.unseal(purpose, bytes(row.sealed)))
        return facts
