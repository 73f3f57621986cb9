"""Signing up, in and out."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Cookie, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, SecretStr

from mongars.api.dependencies import BodyDep
from mongars.api.security import DEVICE_COOKIE, Chatter, SignedIn, SourceDep
from mongars.api.shapes import Asked, Told, Words
from mongars.api.strict import StrictRoute
from mongars.auth import PersonRecord, Tokens
from mongars.auth import passkey_origins as origins_of
from mongars.errors import Unproven

router = APIRouter(tags=["sign-in"], route_class=StrictRoute)

Username = Annotated[Words, Field(min_length=1, max_length=200)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=4096)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=200)]

BINDING_COOKIE = "mongars_oidc"
YEAR_S = 365 * 24 * 3600


class SetupAsked(Asked):
    """The first admin."""

    setup_code: Secret
    """The one-time code that `mongars serve` printed."""
    username: Username
    password: Password


class RegisterAsked(Asked):
    """An account of one's own."""

    username: Username
    password: Password
    invitation: Secret | None = None


class Registered(Told):
    """The account that was made."""

    id: str
    username: str


class TokenAsked(Asked):
    """OAuth 2's password grant (RFC 6749, 4.3), and a one-time code where it is on."""

    grant_type: Literal["password"]
    username: Annotated[Words, Field(max_length=200)]
    password: Annotated[SecretStr, Field(max_length=4096)]
    otp: Annotated[SecretStr, Field(max_length=40)] | None = None
    """The code that the app shows, or a recovery code."""
    device_token: Annotated[SecretStr, Field(max_length=200)] | None = None
    """What an earlier sign-in on this device gave: a stranger's wrong tries do not touch it."""
    scope: Annotated[str, Field(max_length=0)] | None = None
    client_id: Annotated[str, Field(max_length=200)] | None = None
    client_secret: Annotated[SecretStr, Field(max_length=0)] | None = None


class RefreshAsked(Asked):
    """The newest refresh token of a session."""

    refresh_token: Secret


class TokenTold(Told):
    """Tokens; `expires_in` is the access token's life in seconds."""

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int
    device_token: str | None = Field(default=None, repr=False)


class PasskeyAnswer(Asked):
    """What the browser's `navigator.credentials.get` answered, as JSON."""

    credential: Annotated[dict[str, Any], Field(repr=False)]


class CodeAsked(Asked):
    """The one-time code that came back with the browser."""

    code: Secret


class Ticket(Told):
    """Opens the socket once, within 60 seconds."""

    ticket: str = Field(repr=False)


class Ways(Told):
    """How people may come in; `set_up` is false until the first admin is there."""

    registration: Literal["open", "invitation"]
    oidc: bool
    set_up: bool


@router.post("/auth/setup", status_code=201)
async def set_up(asked: SetupAsked, body: BodyDep) -> Registered:
    """Make the first admin with the one-time code."""
    code, password = asked.setup_code.get_secret_value(), asked.password.get_secret_value()
    made = await body.auth.accounts.set_up(code, asked.username, password)
    return _registered(made)


@router.post("/auth/register", status_code=201)
async def register(asked: RegisterAsked, body: BodyDep, source: SourceDep) -> Registered:
    """Make an account of one's own, by invitation or where registration is open."""
    invitation = asked.invitation.get_secret_value() if asked.invitation else None
    password = asked.password.get_secret_value()
    made = await body.auth.register(asked.username, password, invitation, source)
    return _registered(made)


@router.post("/token", response_model_exclude_none=True)
async def sign_in(
    asked: Annotated[TokenAsked, Form()],
    body: BodyDep,
    source: SourceDep,
    request: Request,
    response: Response,
) -> TokenTold:
    """Exchange a name and a password, and a one-time code where it is on, for tokens."""
    if asked.device_token:
        source = replace(source, device_token=asked.device_token.get_secret_value())
    otp = asked.otp.get_secret_value() if asked.otp else None
    password = asked.password.get_secret_value()
    tokens = await body.auth.sign_in(asked.username, password, otp, source)
    return _told(tokens, request, response)


@router.post("/token/refresh", response_model_exclude_none=True)
async def refresh(asked: RefreshAsked, body: BodyDep) -> TokenTold:
    """Exchange a refresh token for the next tokens."""
    return TokenTold.model_validate(
        await body.auth.sessions.refresh(asked.refresh_token.get_secret_value())
    )


@router.post("/auth/logout", status_code=204)
async def sign_out(body: BodyDep, caller: SignedIn) -> None:
    """End this session at once: its tokens open nothing from now on."""
    assert caller.session_id is not None
    await body.auth.end_session(caller.session_id)


@router.post("/auth/passkeys/begin")
async def begin_passkey(body: BodyDep, request: Request) -> dict[str, Any]:
    """What `navigator.credentials.get` is given (WebAuthn's JSON form)."""
    return await body.auth.passkeys.begin_sign_in(request.url.hostname or "")


@router.post("/auth/passkeys/finish", response_model_exclude_none=True)
async def finish_passkey(
    asked: PasskeyAnswer, body: BodyDep, source: SourceDep, request: Request, response: Response
) -> TokenTold:
    """Sign in with what the passkey answered."""
    origins = origins_of(request.url.netloc)
    person_id = await body.auth.passkeys.finish_sign_in(asked.credential, origins)
    tokens = await body.auth.sign_in_proved(person_id, "passkey", source)
    return _told(tokens, request, response)


@router.get("/auth/oidc/start", status_code=302, response_class=RedirectResponse)
async def start_oidc(
    body: BodyDep, request: Request, then: Annotated[str | None, Query(max_length=500)] = None
) -> RedirectResponse:
    """Go to the provider. `then` is a path of this server that the browser comes back to, with a
    `code` for `POST /auth/oidc/finish`; without it the way back answers the tokens themselves."""
    begun = await body.auth.openid.begin(callback_of(request), then=then)
    answer = RedirectResponse(begun.url, 302)
    bind(answer, begun.binding, request)
    return answer


@router.get("/auth/oidc/callback", response_model_exclude_none=True)
async def finish_oidc(
    body: BodyDep,
    source: SourceDep,
    request: Request,
    response: Response,
    state: Annotated[str, Query(max_length=200)],
    code: Annotated[str | None, Query(max_length=2000)] = None,
    error: Annotated[str | None, Query(max_length=200)] = None,
    mongars_oidc: Annotated[str | None, Cookie()] = None,
) -> Any:
    """Where the provider sends the browser back to."""
    if code is None:
        raise Unproven(
            "The provider did not sign you in.", slug="provider-refused", extra={"error": error}
        )
    proved = await body.auth.openid.finish(state, code, mongars_oidc)
    if proved.then is None:
        tokens = await body.auth.sign_in_proved(proved.person_id, "oidc", source)
        return _told(tokens, request, response)
    kept = await body.auth.sign_in_code(proved.person_id)
    joint = "&" if "?" in proved.then else "?"
    return RedirectResponse(f"{proved.then}{joint}code={kept}", 302)


@router.post("/auth/oidc/finish", response_model_exclude_none=True)
async def exchange_oidc(
    asked: CodeAsked, body: BodyDep, source: SourceDep, request: Request, response: Response
) -> TokenTold:
    """Exchange the one-time code that came back with the browser for tokens."""
    person_id = await body.auth.redeem_sign_in_code(asked.code.get_secret_value())
    tokens = await body.auth.sign_in_proved(person_id, "oidc", source)
    return _told(tokens, request, response)


@router.post("/ws/ticket")
async def make_ticket(body: BodyDep, caller: Chatter) -> Ticket:
    """A ticket for the socket: one use, within 60 seconds."""
    return Ticket(ticket=await body.auth.make_ticket(caller))


@router.get("/auth/ways")
async def ways(body: BodyDep) -> Ways:
    """How people may come in here, for the page."""
    return Ways(
        registration="open" if body.settings.auth.open_registration else "invitation",
        oidc=body.settings.auth.oidc_issuer is not None,
        set_up=await body.auth.accounts.has_admin(),
    )


def callback_of(request: Request) -> str:
    """The address that a provider sends the browser back to."""
    return str(request.url_for("finish_oidc"))


def bind(response: Response, binding: str, request: Request) -> None:
    """Only the browser that began may come back."""
    response.set_cookie(
        BINDING_COOKIE,
        binding,
        max_age=600,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def _registered(made: PersonRecord) -> Registered:
    return Registered(id=made.id, username=made.username)


def _told(tokens: Tokens, request: Request, response: Response) -> TokenTold:
    """The token answer; the device is remembered by a cookie too, for clients that keep them."""
    if tokens.device_token is not None:
        response.set_cookie(
            DEVICE_COOKIE,
            tokens.device_token,
            max_age=YEAR_S,
            path=request.scope.get("root_path", "") + "/api/v1/token",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return TokenTold.model_validate(tokens)
