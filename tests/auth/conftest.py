"""People on a migrated database of each kind, and a clock that the test moves."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mongars.auth import Auth, AuthSettings, Source
from mongars.database import Database

PASSWORD = "correct-horse-battery-staple-42"
HERE = Source("192.0.2.1", "a laptop")
ELSEWHERE = Source("198.51.100.7", "a stranger")


@dataclass
class Clock:
    """Tells the time that the test says."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def auth(database: Database, tmp_path: Path, clock: Clock) -> AsyncIterator[Auth]:
    async with Auth.open(AuthSettings(), database, tmp_path, clock) as opened:
        yield opened


async def add(auth: Auth, name: str = "alice", *, admin: bool = False) -> str:
    """A person's id."""
    return (await auth.add_person(name, PASSWORD, role="admin" if admin else "user")).id
