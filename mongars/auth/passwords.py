"""Passwords: strong enough, hashed with Argon2id, and compared in the same time for everybody."""

import asyncio
import os
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from mongars.auth.settings import AuthSettings
from mongars.errors import FieldFault, Invalid

SHORTEST = 12
MOST_BYTES = 1024
LOOKED_AT = 100
"""How many characters the estimate of strength looks at; it is slow on long ones."""
STRONG = 3

Result = TypeVar("Result")


class Passwords:
    """Hashing and comparing, in threads, a few at a time (each takes memory)."""

    def __init__(self, settings: AuthSettings) -> None:
        hasher = Argon2Hasher(
            time_cost=settings.hash_passes, memory_cost=settings.hash_memory_kib, parallelism=1
        )
        self._hash = PasswordHash((hasher,))
        self._at_once = asyncio.Semaphore(max(1, min(4, os.cpu_count() or 1)))
        self._nobodys: str | None = None
        self.verified = 0
        """How many comparisons were made: as many for unknown names as for known ones."""

    async def hash(self, password: str) -> str:
        """The form in which it is kept."""
        return await self._apart(lambda: self._hash.hash(_plain(password)))

    async def verify(self, password: str, kept: str | None) -> tuple[bool, str | None]:
        """Whether it is the one, and a fresh hash where the kept one is of older settings.

        Without a kept hash (no such person) the same work is done, in vain.
        """
        if len(password.encode("utf-8", "replace")) > MOST_BYTES:
            password, kept = "", None
        if kept is None:
            self._nobodys = self._nobodys or await self.hash(os.urandom(16).hex())
            against = self._nobodys
        else:
            against = kept
        right, fresh = await self._apart(
            lambda: self._hash.verify_and_update(_plain(password), against)
        )
        self.verified += 1
        return (right and kept is not None), (fresh if right and kept is not None else None)

    async def check_strength(self, password: str, username: str, *, loc: str = "password") -> None:
        """Raises `Invalid` that says what is wrong with it, never what it was."""
        if len(password.encode("utf-8", "replace")) > MOST_BYTES:
            raise _weak(f"has more than {MOST_BYTES} bytes", loc)
        if len(_plain(password)) < SHORTEST:
            raise _weak(f"needs {SHORTEST} characters or more", loc)
        if why := await self._apart(lambda: _guessable(_plain(password), username)):
            raise _weak(why, loc)

    async def _apart(self, work: Callable[[], Result]) -> Result:
        async with self._at_once:
            return await asyncio.to_thread(work)


def _plain(password: str) -> bytes:
    """The same bytes whatever keyboard it was typed on (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _guessable(password: bytes, username: str) -> str | None:
    from zxcvbn import zxcvbn  # its dictionaries take 70 ms to load

    text = password.decode("utf-8", "replace")[:LOOKED_AT]
    told = zxcvbn(text, user_inputs=[username, "mongars"], max_length=LOOKED_AT)
    if int(told["score"]) >= STRONG:
        return None
    warning = str(told["feedback"]["warning"] or "it follows a common pattern")
    return f"is too easily guessed: {warning[:1].lower()}{warning[1:].rstrip('.')}"


def _weak(why: str, loc: str) -> Invalid:
    return Invalid(
        f"This password {why}.",
        slug="weak-password",
        errors=[FieldFault(("body", loc), f"this password {why}")],
    )
