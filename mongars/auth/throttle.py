"""Slowing down who guesses, kept in the database: across restarts and replicas.

A try is counted before it is made and given back when it was right, so that a hundred at once count
as a hundred. What is counted is named only by a digest: names typed here may be passwords.
See docs/decisions/020-throttling.md for who can be kept out by whom.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mongars.auth.keys import Keys
from mongars.auth.tables import throttles
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Busy

WINDOW = timedelta(hours=1)
"""After this long without a wrong try everything is forgotten."""
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 900.0


@dataclass(frozen=True)
class Rule:
    """What is counted, and how many wrong tries it has before it waits; `None` only counts.

    Where the count of `strict_key` has come to `strict_from`, one wrong try is enough.
    """

    key: str
    tries: int | None
    strict_key: str | None = None
    strict_from: int = 0


class Throttle:
    """Counts tries. Raises `Busy` with the time to wait."""

    def __init__(self, database: Database, keys: Keys, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def take(self, rules: Sequence[Rule]) -> None:
        """Count one try under every rule, or none and raise `Busy` where one has to wait."""
        digests = {rule.key: await self._digest(rule.key) for rule in rules}
        at = self._clock()
        async with self._database.writing(SYSTEM) as w:
            rows = await _locked(w, sorted(digests.values()), at)
            counts = {
                digest: 0 if at - row.last_at > WINDOW else row.failures
                for digest, row in rows.items()
            }
            for rule in rules:
                digest = digests[rule.key]
                strict = rule.strict_key is not None and (
                    counts[digests[rule.strict_key]] >= rule.strict_from
                )
                wait = _wait_s(counts[digest], 1 if strict else rule.tries)
                if (left := wait - (at - rows[digest].last_at).total_seconds()) > 0:
                    raise Busy(
                        "Too many wrong tries; wait, then try again.",
                        slug="too-many-tries",
                        retry_after_s=left,
                    )
            for digest, count in counts.items():
                await w.execute(
                    sa.update(throttles)
                    .where(throttles.c.digest == digest)
                    .values(failures=count + 1, last_at=at)
                )

    async def give_back(self, w: Writing, rules: Sequence[Rule], *, clear: bool = False) -> None:
        """The try was right: it counts no longer; with `clear` the first rule starts anew."""
        for index, rule in enumerate(rules):
            row = throttles.c.digest == await self._digest(rule.key)
            if clear and index == 0:
                await w.execute(sa.delete(throttles).where(row))
                continue
            await w.execute(
                sa.update(throttles)
                .where(row, throttles.c.failures > 0)
                .values(failures=throttles.c.failures - 1)
            )

    async def sweep(self, w: Writing, at: datetime) -> None:
        """Remove what counts no longer."""
        await w.execute(sa.delete(throttles).where(throttles.c.last_at < at - WINDOW))

    async def _digest(self, key: str) -> str:
        return await self._keys.digest("throttle", key)


async def _locked(w: Writing, digests: Sequence[str], at: datetime) -> dict[str, Any]:
    """The counters, made where they are not there, held until the end of the transaction."""
    insert = postgresql.insert if w.dialect == "postgresql" else sqlite.insert
    new = [{"digest": digest, "failures": 0, "last_at": at} for digest in digests]
    await w.execute(insert(throttles).on_conflict_do_nothing(), new)
    rows = await w.all(
        sa.select(throttles)
        .where(throttles.c.digest.in_(digests))
        .order_by(throttles.c.digest)
        .with_for_update()
    )
    return {row.digest: row for row in rows}


def _wait_s(failures: int, tries: int | None) -> float:
    if tries is None or failures < tries:
        return 0.0
    return float(min(FIRST_WAIT_S * 2.0 ** min(failures - tries, 10), LONGEST_WAIT_S))


def network(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 an IPv6 address lies in."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return str(ip)
