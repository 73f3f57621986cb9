"""The keys of this installation, kept where every replica sees them.

There is one `root` secret, from which digests of opaque tokens and the lock of second factors are
derived, and for each algorithm one active key that signs access tokens. Retired keys verify until
the last token they signed has ended. With `auth.secret_key` set, all of them lie in the database
locked (AES-GCM) with it.
"""

import asyncio
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy.exc import IntegrityError

from mongars.auth.settings import Algorithm, AuthSettings
from mongars.auth.tables import signing_keys
from mongars.database import SYSTEM, Database, Reading, Writing
from mongars.errors import NotConfigured
from mongars.ids import new_id

ROOT, TOKEN = "root", "token"
NONCE_BYTES = 12
FRESH_S = 60.0
"""How long a process signs with a key before it looks whether another was made."""
SLACK = timedelta(minutes=5)
"""How much longer than its last token a retired key is kept."""


@dataclass(frozen=True)
class SigningKey:
    """A key that signs access tokens, and the one algorithm it is good for."""

    kid: str
    algorithm: Algorithm
    key: OctKey | RSAKey = field(repr=False)


class Keys:
    """Reads and makes the keys when they are first needed."""

    def __init__(
        self, settings: AuthSettings, database: Database, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._root: bytes | None = None
        self._known: dict[str, SigningKey] = {}
        self._active: tuple[SigningKey, datetime] | None = None
        self._lives = timedelta(minutes=settings.access_minutes) + SLACK

    async def ready(self) -> None:
        """Read what is needed inside transactions, before one is open (SQLite has one writer)."""
        await self._derived("")

    async def digest(self, purpose: str, text: str) -> str:
        """What is kept of an opaque token: HMAC-SHA256, good for nothing without the root key."""
        return hmac.new(await self._derived(purpose), text.encode(), hashlib.sha256).hexdigest()

    async def seal(self, purpose: str, value: bytes) -> bytes:
        """Lock something that must be read again."""
        return _lock(await self._derived(f"seal:{purpose}"), value)

    async def unseal(self, purpose: str, sealed: bytes) -> bytes:
        """Read what `seal` locked."""
        return _unlock(await self._derived(f"seal:{purpose}"), sealed)

    async def signing(self) -> SigningKey:
        """The key that signs now; made at first use."""
        at = self._clock()
        if self._active is not None and at - self._active[1] < timedelta(seconds=FRESH_S):
            return self._active[0]
        algorithm = self._settings.algorithm
        row = await self._ensure(TOKEN, algorithm)
        self._known.clear()
        key = self._remember(row)
        self._active = (key, at)
        return key

    async def verifying(self, kid: str) -> SigningKey | None:
        """The key of this id; `None` for an unknown one, or one whose tokens have all ended."""
        if kid in self._known:
            return self._known[kid]
        if len(kid) > 36:
            return None
        async with self._database.reading(SYSTEM) as r:
            row = await r.one(self._kept().where(signing_keys.c.kid == kid))
        return None if row is None else self._remember(row)

    async def rotate(self) -> str:
        """Sign with a new key from now on; returns its id. What the old one signed stays good."""
        algorithm = self._settings.algorithm
        await self._ensure(TOKEN, algorithm)
        made = await asyncio.to_thread(_make, algorithm)
        async with self._database.writing(SYSTEM) as w:
            await w.execute(
                sa.update(signing_keys)
                .where(
                    signing_keys.c.purpose == TOKEN,
                    signing_keys.c.algorithm == algorithm,
                    signing_keys.c.retired_at.is_(None),
                )
                .values(retired_at=self._clock())
            )
            kid = await self._insert(w, TOKEN, algorithm, made)
        self._active = None
        return kid

    async def published(self) -> list[dict[str, Any]]:
        """The public halves of all pairs that tokens may be signed with (RFC 7517)."""
        if self._settings.algorithm == "RS256":
            await self.signing()
        statement = self._kept().where(signing_keys.c.algorithm == "RS256")
        async with self._database.reading(SYSTEM) as r:
            rows = await r.all(statement.order_by(signing_keys.c.kid))
        keys = [self._remember(row) for row in rows]
        return [
            {**one.key.as_dict(private=False), "kid": one.kid, "alg": one.algorithm, "use": "sig"}
            for one in keys
        ]

    async def sweep(self, w: Writing, at: datetime) -> None:
        """Remove keys whose last token has ended."""
        await w.execute(sa.delete(signing_keys).where(signing_keys.c.retired_at < at - self._lives))

    async def _derived(self, purpose: str) -> bytes:
        if self._root is None:
            self._root = self._unlocked(await self._ensure(ROOT, "none"))
        return hmac.new(self._root, b"mongars:" + purpose.encode(), hashlib.sha256).digest()

    def _kept(self) -> sa.Select[Any]:
        horizon = self._clock() - self._lives
        return sa.select(signing_keys).where(
            signing_keys.c.purpose == TOKEN,
            signing_keys.c.retired_at.is_(None) | (signing_keys.c.retired_at > horizon),
        )

    async def _ensure(self, purpose: str, algorithm: str) -> sa.Row[Any]:
        """The active key; made if there is none. Two processes that make it at once get one."""
        async with self._database.reading(SYSTEM) as r:
            row = await _active_row(r, purpose, algorithm)
        if row is None:
            value = await asyncio.to_thread(_make, algorithm)
            try:
                async with self._database.writing(SYSTEM) as w:
                    await self._insert(w, purpose, algorithm, value)
            except IntegrityError:  # another process was first: its key is the one
                pass
            async with self._database.reading(SYSTEM) as r:
                row = await _active_row(r, purpose, algorithm)
        assert row is not None
        return row

    async def _insert(self, w: Writing, purpose: str, algorithm: str, value: bytes) -> str:
        lock, kid = self._outer(), new_id()
        await w.execute(
            sa.insert(signing_keys).values(
                kid=kid,
                purpose=purpose,
                algorithm=algorithm,
                value=_lock(lock, value) if lock else value,
                locked=lock is not None,
                created_at=self._clock(),
            )
        )
        return kid

    def _remember(self, row: sa.Row[Any]) -> SigningKey:
        if row.kid not in self._known:
            value = self._unlocked(row)
            self._known[row.kid] = SigningKey(row.kid, row.algorithm, _IMPORT[row.algorithm](value))
        return self._known[row.kid]

    def _unlocked(self, row: sa.Row[Any]) -> bytes:
        value = bytes(row.value)
        if not row.locked:
            return value
        lock = self._outer()
        try:
            if lock is not None:
                return _unlock(lock, value)
        except InvalidTag:
            pass
        raise NotConfigured(
            "The keys in the database are locked with another MONGARS_AUTH__SECRET_KEY; set the one"
            " they were made with."
        )

    def _outer(self) -> bytes | None:
        given = self._settings.secret_key
        if given is None:
            return None
        return hashlib.sha256(b"mongars:outer:" + given.get_secret_value().encode()).digest()


async def _active_row(r: Reading, purpose: str, algorithm: str) -> sa.Row[Any] | None:
    return await r.one(
        sa.select(signing_keys).where(
            signing_keys.c.purpose == purpose,
            signing_keys.c.algorithm == algorithm,
            signing_keys.c.retired_at.is_(None),
        )
    )


def _make(algorithm: str) -> bytes:
    if algorithm == "RS256":
        return bytes(RSAKey.generate_key(2048).as_pem(private=True))
    return os.urandom(32)


_IMPORT: Mapping[str, Callable[[bytes], OctKey | RSAKey]] = {
    "HS256": OctKey.import_key,
    "RS256": RSAKey.import_key,
}


def _lock(key: bytes, value: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, value, None)


def _unlock(key: bytes, sealed: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
