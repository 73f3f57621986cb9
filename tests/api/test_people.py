"""Looking after people over HTTP."""

from __future__ import annotations

import httpx

from tests.conftest import PASSWORD

V1 = "/api/v1"


async def person_id(admin: httpx.AsyncClient, name: str) -> str:
    people = (await admin.get(f"{V1}/admin/people")).json()["items"]
    return next(str(one["id"]) for one in people if one["username"] == name)


async def test_an_admin_keeps_somebody_out_and_lets_them_in_again(
    admin: httpx.AsyncClient, alice: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    path = f"{V1}/admin/people/{await person_id(admin, 'alice')}"
    assert (await admin.post(f"{path}/disable")).json()["disabled"] is True
    assert (await alice.get(f"{V1}/me")).status_code == 401
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    refused = await client.post(f"{V1}/token", data=form)
    assert (refused.status_code, refused.json()["type"]) == (
        403,
        "urn:mongars:problem:person-disabled",
    )
    assert (await admin.post(f"{path}/enable")).json()["disabled"] is False
    assert (await client.post(f"{V1}/token", data=form)).status_code == 200


async def test_an_admin_makes_admins_and_the_last_one_stays(
    admin: httpx.AsyncClient, alice: httpx.AsyncClient
) -> None:
    mine = f"{V1}/admin/people/{await person_id(admin, 'root-admin')}"
    refused = await admin.patch(mine, json={"role": "user"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:mongars:problem:last-admin")
    theirs = f"{V1}/admin/people/{await person_id(admin, 'alice')}"
    assert (await admin.patch(theirs, json={"role": "admin"})).json()["role"] == "admin"
    assert (await alice.get(f"{V1}/admin/people")).status_code == 200
    assert (await admin.patch(mine, json={"role": "user"})).status_code == 200
    assert (await admin.get(f"{V1}/admin/people")).status_code == 403


async def test_an_admin_deletes_somebody(
    admin: httpx.AsyncClient, alice: httpx.AsyncClient
) -> None:
    path = f"{V1}/admin/people/{await person_id(admin, 'alice')}"
    assert (await admin.delete(path)).status_code == 204
    assert (await admin.delete(path)).status_code == 404
    assert (await alice.get(f"{V1}/me")).status_code == 401


async def test_an_invitation_is_listed_without_its_code_and_taken_back(
    admin: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    made = (await admin.post(f"{V1}/admin/invitations", json={"note": "for Bob"})).json()
    listed = await admin.get(f"{V1}/admin/invitations")
    assert made["invitation"] not in listed.text
    assert listed.json()["items"][0]["note"] == "for Bob"
    assert (await admin.delete(f"{V1}/admin/invitations/{made['id']}")).status_code == 204
    asked = {"username": "bob", "password": PASSWORD, "invitation": made["invitation"]}
    assert (await client.post(f"{V1}/auth/register", json=asked)).status_code == 403
