"""Signing in with an OpenID Connect provider: code flow with PKCE, state and nonce.

Requests go by httpx, the check of the ID token is joserfc's; see docs/decisions/021-oidc.md.
"""

import base64
import contextlib
import hashlib
import ipaddress
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import sqlalchemy as sa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from mongars.auth import names, store
from mongars.auth.challenges import Challenges
from mongars.auth.settings import AuthSettings
from mongars.auth.tables import identities
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Conflict, Forbidden, Invalid, NotConfigured, Unavailable, Unproven

LASTS = timedelta(minutes=10)
STATE = "oidc-state"
TIMEOUT_S = 10.0
SCOPE = "openid profile email"
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
"""What an ID token may be signed with: never `none`, never a shared secret."""


@dataclass(frozen=True)
class Begun:
    """Where the browser goes, and what it keeps so that only it can come back."""

    url: str = field(repr=False)
    binding: str = field(repr=False)


@dataclass(frozen=True)
class Proved:
    """Whom the provider proved, and where in monGARS they wanted to go."""

    person_id: str
    then: str | None


class OpenId:
    """One provider, as the settings name it."""

    def __init__(
        self,
        settings: AuthSettings,
        database: Database,
        challenges: Challenges,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._database = database
        self._challenges = challenges
        self._clock = clock

    async def begin(
        self, redirect_uri: str, *, then: str | None = None, owner_id: str | None = None
    ) -> Begun:
        """Begin to sign in, or to bind the provider's account to `owner_id`.

        Raises `NotConfigured`, `Unavailable`, and `Invalid` for a `then` that leads elsewhere.
        """
        if then is not None and (not then.startswith("/") or then.startswith(("//", "/\\"))):
            raise Invalid("`then` must be a path of this server, as in /login.")
        issuer = self._issuer()
        verifier, nonce, binding = (secrets.token_urlsafe(48) for _ in range(3))
        async with _provider(issuer) as (_client, provider):
            endpoint = httpx.URL(provider["authorization_endpoint"])
        state = await self._challenges.keep(
            STATE,
            {
                "verifier": verifier,
                "nonce": nonce,
                "binding": _digest(binding),
                "redirect_uri": redirect_uri,
                "then": then,
                "owner_id": owner_id,
            },
            lasts=LASTS,
        )
        url = endpoint.copy_merge_params(
            {
                "response_type": "code",
                "client_id": self._settings.oidc_client_id or "",
                "redirect_uri": redirect_uri,
                "scope": SCOPE,
                "state": state,
                "nonce": nonce,
                "code_challenge": _challenge(verifier),
                "code_challenge_method": "S256",
            }
        )
        return Begun(str(url), binding)

    async def finish(self, state: str, code: str, binding: str | None) -> Proved:
        """The person behind the code. Raises `Unproven`, `Forbidden`, `Unavailable`."""
        facts = await self._challenges.take(STATE, state)
        if binding is None or not secrets.compare_digest(_digest(binding), facts["binding"]):
            raise Unproven("Another browser began this; begin again here.", slug="begin-again")
        issuer = self._issuer()
        async with _provider(issuer) as (client, provider):
            told = await self._exchange(client, provider["token_endpoint"], code, facts)
            keys = _object(await client.get(provider["jwks_uri"]))
        claims = self._claims(told.get("id_token"), keys, facts["nonce"])
        async with self._database.writing(SYSTEM) as w:
            person_id = await self._person(w, issuer, claims, facts["owner_id"])
        return Proved(person_id, facts["then"])

    def _issuer(self) -> str:
        issuer = self._settings.oidc_issuer
        if issuer is None or self._settings.oidc_client_id is None:
            raise NotConfigured(
                "No provider is configured; set MONGARS_AUTH__OIDC_ISSUER, …_OIDC_CLIENT_ID and"
                " …_OIDC_CLIENT_SECRET."
            )
        parts = urlsplit(issuer)
        if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
            raise NotConfigured("MONGARS_AUTH__OIDC_ISSUER must begin with https://.")
        return issuer.rstrip("/")

    async def _exchange(
        self, client: httpx.AsyncClient, url: str, code: str, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The code for tokens (RFC 6749, 4.1.3). Raises `Unproven` when the provider refuses."""
        client_id, secret = self._settings.oidc_client_id or "", self._settings.oidc_client_secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": facts["redirect_uri"],
            "code_verifier": facts["verifier"],
        }
        if secret is None:
            answer = await client.post(url, data=form | {"client_id": client_id})
        else:
            basic = quote(client_id, safe=""), quote(secret.get_secret_value(), safe="")
            answer = await client.post(url, data=form, auth=basic)
        if answer.status_code in (400, 401):
            raise Unproven(
                "The provider did not accept this sign-in; begin again.", slug="begin-again"
            )
        return _object(answer)

    def _claims(self, id_token: Any, keys: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """What the ID token says, once all of OpenID Connect Core 3.1.3.7 holds."""
        client_id = self._settings.oidc_client_id or ""
        try:
            if not isinstance(id_token, str):
                raise ValueError("no ID token")
            public = KeySet.import_key_set({"keys": list(keys["keys"])})
            claims = jwt.decode(id_token, public, algorithms=ALGORITHMS).claims
            checks = jwt.JWTClaimsRegistry(
                now=int(self._clock().timestamp()),
                leeway=60,
                iss={"essential": True},
                sub={"essential": True},
                aud={"essential": True, "value": client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            )
            checks.validate(claims)
            if str(claims["iss"]).rstrip("/") != self._issuer():
                raise ValueError("another issuer")
            audience = claims["aud"]
            if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
                raise ValueError("made for another client")
            if not isinstance(claims["sub"], str):
                raise ValueError("no subject")
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unproven(
                "What the provider said cannot be verified.", slug="provider-unproven"
            ) from error
        return dict(claims)

    async def _person(
        self, w: Writing, issuer: str, claims: Mapping[str, Any], owner_id: str | None
    ) -> str:
        """The person this identity belongs to; never found by name or e-mail, which anybody may
        claim at a provider."""
        known = await w.one(
            sa.select(identities.c.owner_id).where(
                identities.c.issuer == issuer, identities.c.subject == claims["sub"]
            )
        )
        if known is not None:
            if owner_id is not None and known.owner_id != owner_id:
                raise Conflict("This account of the provider belongs to somebody else here.")
            return str(known.owner_id)
        if owner_id is None:
            if not self._settings.oidc_create:
                raise Forbidden(
                    "Nobody here is bound to this account of the provider; sign in with your"
                    " password and bind it, or ask an admin.",
                    slug="identity-unknown",
                )
            name = await _free_name(w, claims)
            owner_id = (await store.add_person(w, name, None, "user", self._clock())).id
        await w.execute(
            sa.insert(identities).values(
                issuer=issuer,
                subject=claims["sub"],
                owner_id=owner_id,
                created_at=self._clock(),
            )
        )
        return owner_id


@contextlib.asynccontextmanager
async def _provider(issuer: str) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, Any]]]:
    """A client, and the provider's own description (OpenID Connect Discovery 4).

    Raises `Unavailable` for a provider that is away, or answers what it should not.
    """
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            told = _object(await client.get(f"{issuer}/.well-known/openid-configuration"))
            if str(told["issuer"]).rstrip("/") != issuer:
                raise ValueError("it names another issuer")
            yield client, told
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            "The sign-in provider does not answer as it should.",
            slug="provider-unavailable",
            retry_after_s=10,
        ) from error


def _object(answer: httpx.Response) -> dict[str, Any]:
    answer.raise_for_status()
    told = answer.json()
    if not isinstance(told, dict):
        raise ValueError("not an object")
    return told


async def _free_name(w: Writing, claims: Mapping[str, Any]) -> str:
    """A name for who comes for the first time: the provider's, with a number where it is taken."""
    email = str(claims.get("email") or "").partition("@")[0]
    base = "person"
    for wanted in (str(claims.get("preferred_username") or ""), email):
        with contextlib.suppress(Invalid):
            base = names.checked(wanted[: names.LONGEST - 8])
            break
    for number in range(1, 10_000):
        name = base if number == 1 else f"{base}-{number}"
        if await store.by_name(w, name) is None:
            return name
    raise Conflict("No name is free for this account.")


def _digest(binding: str) -> str:
    return hashlib.sha256(binding.encode()).hexdigest()


def _challenge(verifier: str) -> str:
    """PKCE's S256 (RFC 7636, 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
