"""Looking after people: an admin's work. None of it shows what they said."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from mongars.api.dependencies import BodyDep
from mongars.api.security import Admin
from mongars.api.shapes import Asked, Id, Line, Page, Time, Told
from mongars.api.strict import StrictRoute

router = APIRouter(prefix="/admin", tags=["admin"], route_class=StrictRoute)

RoleName = Literal["user", "admin"]


class PersonTold(Told):
    """An account."""

    id: str
    username: str
    role: RoleName
    disabled: bool
    created_at: Time


class PersonChange(Asked):
    """What is to change; what is left out stays."""

    role: RoleName | None = None
    disabled: bool | None = None


class InvitationAsked(Asked):
    """Somebody is invited to make an account."""

    role: RoleName = "user"
    note: Line | None = None
    days: Annotated[int, Field(ge=1, le=90)] = 7
    """How long it is good, in days."""


class InvitationTold(Told):
    """An invitation that was given out."""

    id: str
    role: RoleName
    note: str | None
    created_at: Time
    expires_at: Time
    used_at: Time | None
    used_by: str | None


class InvitationMade(InvitationTold):
    """The code to give away, shown this once."""

    invitation: str = Field(repr=False)


@router.get("/people")
async def list_people(body: BodyDep, caller: Admin) -> Page[PersonTold]:
    """Everybody, by name."""
    people = await body.auth.people()
    return Page(items=[PersonTold.model_validate(one) for one in people])


@router.get("/people/{person_id}")
async def get_person(person_id: Id, body: BodyDep, caller: Admin) -> PersonTold:
    """One account."""
    return PersonTold.model_validate(await body.auth.accounts.person(person_id))


@router.patch("/people/{person_id}")
async def change_person(
    person_id: Id, asked: PersonChange, body: BodyDep, caller: Admin
) -> PersonTold:
    """Make somebody an admin or a user; keep them out or let them in."""
    if asked.role is not None:
        await body.auth.accounts.set_role(person_id, asked.role)
    if asked.disabled is not None:
        await body.auth.accounts.set_disabled(person_id, asked.disabled)
    return PersonTold.model_validate(await body.auth.accounts.person(person_id))


@router.post("/people/{person_id}/disable")
async def disable_person(person_id: Id, body: BodyDep, caller: Admin) -> PersonTold:
    """Keep somebody out, at once; what they wrote stays."""
    return PersonTold.model_validate(await body.auth.accounts.set_disabled(person_id, True))


@router.post("/people/{person_id}/enable")
async def enable_person(person_id: Id, body: BodyDep, caller: Admin) -> PersonTold:
    """Let somebody in again."""
    return PersonTold.model_validate(await body.auth.accounts.set_disabled(person_id, False))


@router.delete("/people/{person_id}/otp", status_code=204)
async def remove_otp(person_id: Id, body: BodyDep, caller: Admin) -> None:
    """For somebody who lost their phone and their recovery codes."""
    await body.auth.reset_otp(person_id)


@router.delete("/people/{person_id}", status_code=204)
async def delete_person(person_id: Id, body: BodyDep, caller: Admin) -> None:
    """Delete an account and everything in it. There is no way back."""
    await body.auth.accounts.delete(person_id)


@router.get("/invitations")
async def list_invitations(body: BodyDep, caller: Admin) -> Page[InvitationTold]:
    """The invitations that were given out, the newest first."""
    made = await body.auth.accounts.invitations()
    return Page(items=[InvitationTold.model_validate(one) for one in made])


@router.post("/invitations", status_code=201)
async def invite(asked: InvitationAsked, body: BodyDep, caller: Admin) -> InvitationMade:
    """An invitation: the code makes one account."""
    lasts = timedelta(days=asked.days)
    made, shown = await body.auth.accounts.invite(caller, asked.role, asked.note, lasts)
    told = InvitationTold.model_validate(made)
    return InvitationMade(**told.model_dump(), invitation=shown.secret)


@router.delete("/invitations/{invitation_id}", status_code=204)
async def take_invitation_back(invitation_id: Id, body: BodyDep, caller: Admin) -> None:
    """The invitation makes no account any more."""
    await body.auth.accounts.uninvite(invitation_id)
