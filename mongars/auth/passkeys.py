"""Passkeys (WebAuthn): signing in with a device that knows its person.

The library is imported when a ceremony begins: it takes a fifth of a second.
"""

import ipaddress
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from mongars.auth.challenges import Challenges
from mongars.auth.person import PasskeyRecord
from mongars.auth.tables import passkeys, users
from mongars.database import SYSTEM, Database
from mongars.errors import Conflict, FieldFault, Invalid, Missing, Unproven
from mongars.ids import new_id

LASTS = timedelta(minutes=5)
MOST = 20
REGISTER, SIGN_IN = "passkey-register", "passkey-sign-in"


def rp_id_of(host: str) -> str:
    """The name that passkeys are made for. Raises `Conflict` on an IP address (WebAuthn, 5.1.3)."""
    name = host.lower().rstrip(".")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name
    raise Conflict(
        "Passkeys do not work on an IP address: browsers bind them to a name. Open monGARS by a"
        " host name (on this machine: http://localhost:8000).",
        slug="passkeys-need-a-name",
    )


def origins_of(netloc: str) -> list[str]:
    """The origins a browser may say for this host; it only offers passkeys on safe ones."""
    return [f"https://{netloc}", f"http://{netloc}"]


class Passkeys:
    """Both ceremonies, and the list."""

    def __init__(
        self, database: Database, challenges: Challenges, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._challenges = challenges
        self._clock = clock

    async def begin(self, person_id: str, username: str, host: str) -> dict[str, Any]:
        """What the browser's `navigator.credentials.create` is given. Raises `Conflict`."""
        from webauthn import generate_registration_options, options_to_json
        from webauthn.helpers import structs

        rp_id = rp_id_of(host)
        async with self._database.reading(person_id) as r:
            known = await r.all(
                sa.select(passkeys.c.credential_id).where(passkeys.c.owner_id == person_id)
            )
        if len(known) >= MOST:
            raise Conflict(f"Nobody needs more than {MOST} passkeys; remove one first.")
        options = generate_registration_options(
            rp_id=rp_id,
            rp_name="monGARS",
            user_id=person_id.encode(),
            user_name=username,
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                resident_key=structs.ResidentKeyRequirement.REQUIRED,
                user_verification=structs.UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[
                structs.PublicKeyCredentialDescriptor(id=_bytes(row.credential_id)) for row in known
            ],
        )
        told: dict[str, Any] = orjson.loads(options_to_json(options))
        await self._challenges.keep(
            REGISTER, {"rp_id": rp_id}, lasts=LASTS, owner_id=person_id, name=told["challenge"]
        )
        return told

    async def finish(
        self, person_id: str, name: str, credential: Mapping[str, Any], origins: list[str]
    ) -> PasskeyRecord:
        """Keep the passkey that the browser made. Raises `Invalid`, `Unproven`, `Conflict`."""
        from webauthn import verify_registration_response
        from webauthn.helpers import bytes_to_base64url
        from webauthn.helpers.exceptions import WebAuthnException

        challenge = _challenge(credential)
        facts = await self._challenges.take(REGISTER, challenge, owner_id=person_id)
        try:
            made = verify_registration_response(
                credential=dict(credential),
                expected_challenge=_bytes(challenge),
                expected_rp_id=facts["rp_id"],
                expected_origin=origins,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, TypeError, KeyError) as error:
            raise _unreadable() from error
        row = {
            "id": new_id(),
            "name": name,
            "rp_id": facts["rp_id"],
            "created_at": self._clock(),
            "last_used_at": None,
        }
        credential_id = bytes_to_base64url(made.credential_id)
        async with self._database.writing(SYSTEM) as w:
            taken = sa.select(passkeys.c.id).where(passkeys.c.credential_id == credential_id)
            if await w.one(taken) is not None:
                raise Conflict("This passkey is known already.")
            await w.execute(
                sa.insert(passkeys).values(
                    **row,
                    owner_id=person_id,
                    credential_id=credential_id,
                    public_key=made.credential_public_key,
                    sign_count=made.sign_count,
                )
            )
        return PasskeyRecord(**row)

    async def begin_sign_in(self, host: str) -> dict[str, Any]:
        """What the browser's `navigator.credentials.get` is given: any passkey of this host."""
        from webauthn import generate_authentication_options, options_to_json
        from webauthn.helpers.structs import UserVerificationRequirement

        rp_id = rp_id_of(host)
        options = generate_authentication_options(
            rp_id=rp_id, user_verification=UserVerificationRequirement.REQUIRED
        )
        told: dict[str, Any] = orjson.loads(options_to_json(options))
        await self._challenges.keep(SIGN_IN, {"rp_id": rp_id}, lasts=LASTS, name=told["challenge"])
        return told

    async def finish_sign_in(self, credential: Mapping[str, Any], origins: list[str]) -> str:
        """The id of the person whose passkey signed. Raises `Unproven`, `Invalid`."""
        from webauthn import verify_authentication_response
        from webauthn.helpers.exceptions import WebAuthnException

        challenge = _challenge(credential)
        facts = await self._challenges.take(SIGN_IN, challenge)
        async with self._database.writing(SYSTEM) as w:
            row = await w.one(
                sa.select(passkeys, users.c.disabled)
                .join(users, users.c.id == passkeys.c.owner_id)
                .where(
                    passkeys.c.credential_id == str(credential.get("id")),
                    passkeys.c.rp_id == facts["rp_id"],
                )
                .with_for_update(of=passkeys)
            )
            if row is None:
                raise _not_known()
            try:
                proof = verify_authentication_response(
                    credential=dict(credential),
                    expected_challenge=_bytes(challenge),
                    expected_rp_id=row.rp_id,
                    expected_origin=origins,
                    credential_public_key=bytes(row.public_key),
                    credential_current_sign_count=row.sign_count,
                    require_user_verification=True,
                )
            except (WebAuthnException, ValueError, TypeError, KeyError) as error:
                raise _not_known() from error
            await w.execute(
                sa.update(passkeys)
                .where(passkeys.c.id == row.id)
                .values(sign_count=proof.new_sign_count, last_used_at=self._clock())
            )
        return str(row.owner_id)

    async def of(self, person_id: str) -> list[PasskeyRecord]:
        """A person's passkeys, the newest first."""
        statement = (
            sa.select(passkeys)
            .where(passkeys.c.owner_id == person_id)
            .order_by(passkeys.c.id.desc())
        )
        async with self._database.reading(person_id) as r:
            return [
                PasskeyRecord(row.id, row.name, row.rp_id, row.created_at, row.last_used_at)
                for row in await r.all(statement)
            ]

    async def remove(self, person_id: str, passkey_id: str) -> None:
        """It signs nobody in any more. Raises `Missing`."""
        statement = (
            sa.delete(passkeys)
            .where(passkeys.c.id == passkey_id, passkeys.c.owner_id == person_id)
            .returning(passkeys.c.id)
        )
        async with self._database.writing(person_id) as w:
            if await w.one(statement) is None:
                raise Missing("There is no such passkey.")


def _bytes(text: str) -> bytes:
    from webauthn import base64url_to_bytes

    return base64url_to_bytes(text)


def _challenge(credential: Mapping[str, Any]) -> str:
    """The challenge that the browser says it signed; whether it did is verified afterwards."""
    try:
        told = orjson.loads(_bytes(credential["response"]["clientDataJSON"]))
        challenge = told["challenge"]
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable() from error
    if not isinstance(challenge, str):
        raise _unreadable()
    return challenge


def _unreadable() -> Invalid:
    fault = FieldFault(("body", "credential"), "this is not what a passkey answers")
    return Invalid("This is not an answer of a passkey to what was asked.", errors=[fault])


def _not_known() -> Unproven:
    return Unproven(
        "This passkey is not known here.", slug="passkey-unknown", extra={"error": "invalid_grant"}
    )
