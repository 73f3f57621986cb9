"""One's own account: name, password, sessions, second factor, passkeys, keys."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from mongars.api.dependencies import BodyDep
from mongars.api.routes.auth import Password, Username, bind, callback_of
from mongars.api.security import Person, SignedIn
from mongars.api.shapes import Asked, Id, Line, Page, Time, Told
from mongars.api.strict import StrictRoute
from mongars.auth import Scope, passkey_origins

router = APIRouter(prefix="/me", tags=["account"], route_class=StrictRoute)

USUAL_SCOPES: tuple[Scope, ...] = ("chat", "read", "memory")


class AccountTold(Told):
    """One's own account."""

    id: str
    username: str
    role: Literal["user", "admin"]
    language: str | None
    created_at: Time
    has_password: bool
    has_otp: bool


class AccountChange(Asked):
    """What is to change; what is left out stays."""

    username: Username | None = None
    language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] | None = None


class PasswordChange(Asked):
    """The old password, and the new one. An account without a password leaves the old one out."""

    current_password: Password | None = None
    new_password: Password


class SessionTold(Told):
    """A device that is signed in; `last_seen_at` is coarse."""

    id: str
    way: str
    device: str
    created_at: Time
    last_seen_at: Time
    expires_at: Time
    current: bool = False


class OtpStarted(Told):
    """What an app needs: scan the address as a QR code, or type the secret."""

    secret: str = Field(repr=False)
    otpauth_uri: str = Field(repr=False)


class OtpCode(Asked):
    """A code that the app shows, or a recovery code."""

    code: Annotated[SecretStr, Field(min_length=6, max_length=40)]


class RecoveryCodes(Told):
    """Each signs in once, in the place of the app's code; shown this once."""

    recovery_codes: Sequence[str] = Field(repr=False)


class PasskeyMade(Asked):
    """What the browser's `navigator.credentials.create` answered, as JSON."""

    name: Line
    credential: Annotated[dict[str, Any], Field(repr=False)]


class PasskeyTold(Told):
    """A passkey, and the host name it works on."""

    id: str
    name: str
    rp_id: str
    created_at: Time
    last_used_at: Time | None


class KeyAsked(Asked):
    """A key for a program."""

    name: Line
    scopes: Annotated[Sequence[Scope], Field(min_length=1, max_length=5)] = USUAL_SCOPES


class KeyMade(Told):
    """The key itself, shown this once."""

    id: str
    name: str
    key: str = Field(repr=False)
    scopes: Sequence[Scope]


class KeyTold(Told):
    """A key, without the key."""

    id: str
    name: str
    prefix: str
    scopes: Sequence[Scope]
    created_at: Time
    last_used_at: Time | None


class OidcStarted(Told):
    """Where the browser goes to bind the provider's account."""

    url: str


@router.get("")
async def my_account(body: BodyDep, caller: Person) -> AccountTold:
    """One's own account."""
    return AccountTold.model_validate(await body.auth.accounts.account(caller.id))


@router.patch("")
async def change_account(asked: AccountChange, body: BodyDep, caller: SignedIn) -> AccountTold:
    """Change one's name or language."""
    if asked.username is not None:
        await body.auth.accounts.rename(caller.id, asked.username)
    if "language" in asked.model_fields_set:
        await body.auth.accounts.set_language(caller.id, asked.language)
    return AccountTold.model_validate(await body.auth.accounts.account(caller.id))


@router.delete("", status_code=204)
async def delete_account(body: BodyDep, caller: SignedIn) -> None:
    """Delete one's account and everything in it. There is no way back."""
    await body.auth.accounts.delete(caller.id)


@router.post("/password", status_code=204)
async def change_password(asked: PasswordChange, body: BodyDep, caller: SignedIn) -> None:
    """Change one's password; every other session ends."""
    account = await body.auth.accounts.account(caller.id)
    if account.has_password:
        given = asked.current_password
        await body.auth.check_password(caller, given.get_secret_value() if given else "")
    new = asked.new_password.get_secret_value()
    await body.auth.accounts.set_password(caller.id, new, keep=caller.session_id)


@router.get("/sessions")
async def my_sessions(body: BodyDep, caller: Person) -> Page[SessionTold]:
    """The devices that are signed in."""
    return Page(
        items=[
            SessionTold.model_validate(one).model_copy(
                update={"current": one.id == caller.session_id}
            )
            for one in await body.auth.sessions.of(caller.id)
        ]
    )


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: Id, body: BodyDep, caller: SignedIn) -> None:
    """Sign a device out, at once."""
    await body.auth.sessions.end(caller.id, session_id)


@router.post("/otp", status_code=201)
async def start_otp(body: BodyDep, caller: SignedIn) -> OtpStarted:
    """Begin to use one-time codes; they are asked for once one is confirmed."""
    made = await body.auth.otp.start(caller.id, caller.username)
    return OtpStarted(secret=made.secret, otpauth_uri=made.uri)


@router.post("/otp/confirm")
async def confirm_otp(asked: OtpCode, body: BodyDep, caller: SignedIn) -> RecoveryCodes:
    """Show that the app makes the right codes: from now on signing in asks for one."""
    return RecoveryCodes(
        recovery_codes=await body.auth.otp.confirm(caller.id, asked.code.get_secret_value())
    )


@router.delete("/otp", status_code=204)
async def stop_otp(asked: OtpCode, body: BodyDep, caller: SignedIn) -> None:
    """Use one-time codes no longer; it takes a code."""
    await body.auth.turn_off_otp(caller, asked.code.get_secret_value())


@router.post("/passkeys/begin")
async def begin_my_passkey(body: BodyDep, caller: SignedIn, request: Request) -> dict[str, Any]:
    """What `navigator.credentials.create` is given (WebAuthn's JSON form)."""
    host = request.url.hostname or ""
    return await body.auth.passkeys.begin(caller.id, caller.username, host)


@router.post("/passkeys", status_code=201)
async def add_passkey(
    asked: PasskeyMade, body: BodyDep, caller: SignedIn, request: Request
) -> PasskeyTold:
    """Keep the passkey that the browser made."""
    origins = passkey_origins(request.url.netloc)
    made = await body.auth.passkeys.finish(caller.id, asked.name, asked.credential, origins)
    return PasskeyTold.model_validate(made)


@router.get("/passkeys")
async def my_passkeys(body: BodyDep, caller: Person) -> Page[PasskeyTold]:
    """One's passkeys."""
    made = await body.auth.passkeys.of(caller.id)
    return Page(items=[PasskeyTold.model_validate(one) for one in made])


@router.delete("/passkeys/{passkey_id}", status_code=204)
async def remove_passkey(passkey_id: Id, body: BodyDep, caller: SignedIn) -> None:
    """A passkey signs in no longer."""
    await body.auth.passkeys.remove(caller.id, passkey_id)


@router.get("/api-keys")
async def my_api_keys(body: BodyDep, caller: Person) -> Page[KeyTold]:
    """One's keys, without the keys themselves."""
    made = await body.auth.api_keys.of(caller.id)
    return Page(items=[KeyTold.model_validate(one) for one in made])


@router.post("/api-keys", status_code=201)
async def make_api_key(asked: KeyAsked, body: BodyDep, caller: SignedIn) -> KeyMade:
    """A key for a program; it is shown this once."""
    made = await body.auth.api_keys.make(caller, asked.name, asked.scopes)
    return KeyMade(id=made.id, name=asked.name, key=made.secret, scopes=sorted(set(asked.scopes)))


@router.delete("/api-keys/{key_id}", status_code=204)
async def remove_api_key(key_id: Id, body: BodyDep, caller: SignedIn) -> None:
    """A key opens nothing from now on."""
    await body.auth.api_keys.remove(caller.id, key_id)


@router.post("/oidc")
async def bind_oidc(
    body: BodyDep, caller: SignedIn, request: Request, response: Response
) -> OidcStarted:
    """Bind one's account at the provider, to sign in with it from now on."""
    begun = await body.auth.openid.begin(callback_of(request), owner_id=caller.id)
    bind(response, begun.binding, request)
    return OidcStarted(url=begun.url)
