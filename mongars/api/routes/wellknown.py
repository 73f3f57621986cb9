"""What others need to check our signatures."""

from typing import Any

from fastapi import APIRouter, Response

from mongars.api.dependencies import BodyDep
from mongars.api.shapes import Told
from mongars.api.strict import StrictRoute

PREFIX = ""
router = APIRouter(tags=["sign-in"], route_class=StrictRoute)


class KeySet(Told):
    """Public keys (RFC 7517); empty where tokens are signed with a shared secret."""

    keys: list[dict[str, Any]]


@router.get("/.well-known/jwks.json")
async def public_keys(body: BodyDep, response: Response) -> KeySet:
    """The public keys that access tokens are verified with."""
    response.headers["cache-control"] = "public, max-age=60"
    return KeySet(keys=await body.auth.keys.published())
