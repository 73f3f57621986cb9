"""Devices that have signed in before: what they hold keeps a stranger's wrong tries from them."""

import hmac
import secrets
from typing import Any

from mongars.auth.keys import Keys


class Devices:
    """Makes and reads device tokens, `<device>.<proof>`; they open nothing by themselves."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def known(self, person: Any, token: str | None) -> str | None:
        """The device that this token proves for this person; `None` for any other."""
        if person is None or not token or len(token) > 200:
            return None
        device, _, proof = token.partition(".")
        right = await self._proof(person, device)
        return device if hmac.compare_digest(right.encode(), proof.encode()) else None

    async def token(self, person: Any, device: str | None) -> str:
        """The token that a device keeps; a new one for a new device."""
        device = device or secrets.token_hex(8)
        return f"{device}.{await self._proof(person, device)}"

    async def _proof(self, person: Any, device: str) -> str:
        return await self._keys.digest("device", f"{person.id}:{person.epoch}:{device}")
