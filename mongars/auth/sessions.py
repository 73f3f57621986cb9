"""Sessions: short access tokens, refresh tokens that rotate, and tickets for the socket.

A session is the family of its refresh tokens; when its row is gone, so is everything signed for it.
The successor of a refresh token is derived from it, so that two tabs that use one at the same moment
are given the same next one, and nothing readable is stored.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from joserfc import jws, jwt
from joserfc.errors import JoseError

from mongars.auth import store
from mongars.auth.caller import Caller, Scope
from mongars.auth.keys import Keys, SigningKey
from mongars.auth.person import SessionRecord, Shown, Source, Tokens
from mongars.auth.settings import AuthSettings
from mongars.auth.tables import refresh_tokens, sessions, tickets, users
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Missing, Unproven
from mongars.ids import new_id

ISSUER = "mongars"
TYPE = "at+jwt"
"""The `typ` of access tokens (RFC 9068): nothing else that is signed here is taken for one."""
LONGEST_TOKEN = 4096
TWO_TABS = timedelta(seconds=10)
"""How long a used refresh token still answers with its successor."""
TICKET = timedelta(seconds=60)
LOCAL = timedelta(minutes=15)
"""How long a session of the command line lasts."""
DEVICE_CHARS = 200

_PERSON = (users.c.id, users.c.username, users.c.role, users.c.disabled, users.c.epoch)
_LIVE = (
    sa.select(*_PERSON, sessions.c.expires_at)
    .join(sessions, sessions.c.owner_id == users.c.id)
    .where(sessions.c.id == sa.bindparam("session_id"))
)


@dataclass(frozen=True)
class Opened:
    """A session that is in the database, and its newest refresh token."""

    session_id: str
    person_id: str
    epoch: int
    refresh: str = field(repr=False)


class Sessions:
    """Opens, proves, renews and ends sessions."""

    def __init__(
        self,
        settings: AuthSettings,
        database: Database,
        keys: Keys,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._access = timedelta(minutes=settings.access_minutes)
        self._idle = timedelta(days=settings.refresh_days)

    async def open(
        self,
        w: Writing,
        person_id: str,
        way: str,
        source: Source,
        *,
        lasts: timedelta | None = None,
    ) -> Opened:
        """A new session of this person's. `way` tells how they proved who they are.

        Call `tokens` once the transaction is on disk.
        """
        at, session_id = self._clock(), new_id()
        epoch = await w.scalar(sa.select(users.c.epoch).where(users.c.id == person_id))
        await w.execute(
            sa.insert(sessions).values(
                id=session_id,
                owner_id=person_id,
                way=way,
                device=source.device.replace("\x00", "")[:DEVICE_CHARS],
                created_at=at,
                last_seen_at=at,
                expires_at=at + (lasts or self._idle),
            )
        )
        refresh = f"mgr_{secrets.token_urlsafe(32)}"
        await self._store_refresh(w, refresh, session_id, person_id, at)
        return Opened(session_id, person_id, int(epoch), refresh)

    async def tokens(self, opened: Opened) -> Tokens:
        """What a client is given for an open session."""
        key, at = await self._keys.signing(), int(self._clock().timestamp())
        lasts = int(self._access.total_seconds())
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": opened.person_id,
            "sid": opened.session_id,
            "epoch": opened.epoch,
            "iat": at,
            "exp": at + lasts,
        }
        header = {"alg": key.algorithm, "kid": key.kid, "typ": TYPE}
        access = jwt.encode(header, claims, key.key, algorithms=[key.algorithm])
        return Tokens(opened.session_id, access, opened.refresh, lasts)

    async def refresh(self, token: str) -> Tokens:
        """The next tokens. Raises `Unproven`; a token used long ago ends its whole session."""
        at = self._clock()
        digest = await self._keys.digest("refresh", token)
        successor = f"mgr_{await self._keys.digest('successor', token)}"
        async with self._database.writing(SYSTEM) as w:
            row = await w.one(
                sa.select(
                    refresh_tokens.c.session_id,
                    refresh_tokens.c.used_at,
                    sessions.c.expires_at,
                    *_PERSON,
                )
                .join(sessions, sessions.c.id == refresh_tokens.c.session_id)
                .join(users, users.c.id == refresh_tokens.c.owner_id)
                .where(refresh_tokens.c.digest == digest)
                .with_for_update(of=refresh_tokens)
            )
            stolen = row is not None and row.used_at is not None and at - row.used_at > TWO_TABS
            if row is not None and stolen:
                await store.end_session(w, row.session_id)
            good = row is not None and not stolen and not row.disabled and row.expires_at > at
            if row is not None and good and row.used_at is None:
                await self._use(w, digest, row, successor, at)
        if row is None or not good:
            raise Unproven(
                "This session has ended; sign in again.",
                slug="session-ended",
                extra={"error": "invalid_grant"},
            )
        return await self.tokens(Opened(row.session_id, row.id, row.epoch, successor))

    async def prove(self, token: str) -> Caller:
        """Who holds this access token. Raises `Unproven` for one that is not ours, or has ended."""
        claims = await self._claims(token)
        async with self._database.reading(SYSTEM) as r:
            row = (await r.execute(_LIVE, {"session_id": claims["sid"]})).first()
        if row is None or row.id != claims["sub"] or row.epoch != claims["epoch"]:
            raise wrong_token()
        return self._caller(row, str(claims["sid"]))

    async def live(self, session_id: str) -> Caller:
        """The caller of a session that is still open. Raises `Unproven`."""
        async with self._database.reading(SYSTEM) as r:
            row = (await r.execute(_LIVE, {"session_id": session_id})).first()
        if row is None:
            raise wrong_token()
        return self._caller(row, session_id)

    async def of(self, person_id: str) -> list[SessionRecord]:
        """A person's open sessions, the newest first."""
        statement = (
            sa.select(sessions)
            .where(sessions.c.owner_id == person_id, sessions.c.expires_at > self._clock())
            .order_by(sessions.c.last_seen_at.desc(), sessions.c.id.desc())
        )
        async with self._database.reading(person_id) as r:
            rows = await r.all(statement)
        return [
            SessionRecord(
                row.id, row.way, row.device, row.created_at, row.last_seen_at, row.expires_at
            )
            for row in rows
        ]

    async def end(self, person_id: str, session_id: str) -> None:
        """End one of a person's sessions at once. Raises `Missing`."""
        async with self._database.writing(person_id) as w:
            if not await store.end_session(w, session_id, owner_id=person_id):
                raise Missing("There is no such session.")

    async def ticket(self, caller: Caller) -> Shown:
        """A ticket that proves this caller once, within a minute."""
        secret = secrets.token_urlsafe(32)
        async with self._database.writing(caller.id) as w:
            await w.execute(
                sa.insert(tickets).values(
                    digest=await self._keys.digest("ticket", secret),
                    owner_id=caller.id,
                    session_id=caller.session_id,
                    key_id=caller.key_id,
                    expires_at=self._clock() + TICKET,
                )
            )
        return Shown("", secret)

    async def use_ticket(self, ticket: str) -> tuple[str | None, str | None]:
        """The session or key that made this ticket, which is gone now. Raises `Unproven`."""
        digest = await self._keys.digest("ticket", ticket)
        async with self._database.writing(SYSTEM) as w:
            row = await w.one(
                sa.delete(tickets)
                .where(tickets.c.digest == digest)
                .returning(tickets.c.session_id, tickets.c.key_id, tickets.c.expires_at)
            )
        if row is None or row.expires_at <= self._clock():
            raise Unproven("This ticket was used, or has ended.", slug="ticket-ended")
        return row.session_id, row.key_id

    def _caller(self, row: Any, session_id: str) -> Caller:
        if row.disabled or row.expires_at <= self._clock():
            raise wrong_token()
        return Caller(row.id, row.username, row.role, scopes_of(row.role), session_id=session_id)

    async def _use(self, w: Writing, digest: str, row: Any, successor: str, at: datetime) -> None:
        await w.execute(
            sa.update(refresh_tokens).where(refresh_tokens.c.digest == digest).values(used_at=at)
        )
        await self._store_refresh(w, successor, row.session_id, row.id, at)
        await w.execute(
            sa.update(sessions)
            .where(sessions.c.id == row.session_id)
            .values(last_seen_at=at, expires_at=at + self._idle)
        )

    async def _store_refresh(
        self, w: Writing, token: str, session_id: str, person_id: str, at: datetime
    ) -> None:
        await w.execute(
            sa.insert(refresh_tokens).values(
                digest=await self._keys.digest("refresh", token),
                owner_id=person_id,
                session_id=session_id,
                created_at=at,
            )
        )

    async def _claims(self, token: str) -> dict[str, Any]:
        """What one of our own access tokens says, once its signature and times hold."""
        if len(token) > LONGEST_TOKEN:
            raise wrong_token()
        try:
            header = jws.extract_compact(token.encode()).headers()
            kid = header.get("kid")
            key = await self._keys.verifying(kid) if isinstance(kid, str) else None
            if key is None or header.get("alg") != key.algorithm or header.get("typ") != TYPE:
                raise wrong_token()
            claims = dict(_read(token, key))
        except (JoseError, ValueError) as error:
            raise wrong_token() from error
        at = self._clock().timestamp()
        times = claims.get("exp"), claims.get("iat")
        named = all(isinstance(claims.get(name), str) for name in ("sub", "sid"))
        if claims.get("iss") != ISSUER or claims.get("aud") != ISSUER or not named:
            raise wrong_token()
        if not all(isinstance(one, int) for one in times) or not claims["exp"] > at:
            raise wrong_token()
        return claims


def _read(token: str, key: SigningKey) -> dict[str, Any]:
    return jwt.decode(token, key.key, algorithms=[key.algorithm]).claims


def scopes_of(role: str) -> frozenset[Scope]:
    """What somebody in this role may be allowed to do."""
    everybody: frozenset[Scope] = frozenset({"chat", "read", "memory"})
    return everybody | {"metrics", "admin"} if role == "admin" else everybody


def wrong_token() -> Unproven:
    """Why a token is wrong is nobody's business."""
    return Unproven(
        "This token is not valid, or has ended.",
        slug="token-invalid",
        extra={"error": "invalid_token"},
    )
