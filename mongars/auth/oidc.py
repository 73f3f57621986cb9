"""Signing in with an OpenID Connect provider: code flow with PKCE, state and nonce.

The protocol's requests are authlib's, the check of the ID token joserfc's; both are imported when
somebody signs in this way. See docs/decisions/021-oidc.md.
"""

import contextlib
import hashlib
import ipaddress
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import sqlalchemy as sa

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
        async with self._client(redirect_uri) as client:
            provider = await _discover(client, issuer)
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
            url, _state = client.create_authorization_url(
                provider["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return Begun(str(url), binding)

    async def finish(self, state: str, code: str, binding: str | None) -> Proved:
        """The person behind the code. Raises `Unproven`, `Forbidden`, `Unavailable`."""
        facts = await self._challenges.take(STATE, state)
        if binding is None or not secrets.compare_digest(_digest(binding), facts["binding"]):
            raise Unproven("Another browser began this; begin again here.", slug="begin-again")
        issuer = self._issuer()
        async with self._client(facts["redirect_uri"]) as client:
            provider = await _discover(client, issuer)
            told = await client.fetch_token(
                provider["token_endpoint"],
                grant_type="authorization_code",
                code=code,
                code_verifier=facts["verifier"],
            )
            keys = await _json(client, provider["jwks_uri"])
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

    @contextlib.asynccontextmanager
    async def _client(self, redirect_uri: str) -> AsyncIterator[Any]:
        """A client of the provider; what goes wrong with it is told in our terms."""
        from authlib.common.errors import AuthlibBaseError
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        secret = self._settings.oidc_client_secret
        client = AsyncOAuth2Client(  # type: ignore[no-untyped-call]
            client_id=self._settings.oidc_client_id,
            client_secret=secret.get_secret_value() if secret else None,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=SCOPE,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        try:
            async with client:
                yield client
        except AuthlibBaseError as error:
            raise Unproven(
                "The provider did not accept this sign-in; begin again.", slug="begin-again"
            ) from error
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Unavailable(
                "The sign-in provider does not answer as it should.",
                slug="provider-unavailable",
                retry_after_s=10,
            ) from error

    def _claims(self, id_token: Any, keys: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        """What the ID token says, once all of OpenID Connect Core 3.1.3.7 holds."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

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


async def _discover(client: Any, issuer: str) -> dict[str, Any]:
    """The provider's own description (OpenID Connect Discovery 4)."""
    told = await _json(client, f"{issuer}/.well-known/openid-configuration")
    if str(told["issuer"]).rstrip("/") != issuer:
        raise ValueError("it names another issuer")
    return told


async def _json(client: Any, url: str) -> dict[str, Any]:
    answer = await client.request("GET", url, withhold_token=True)
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


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
