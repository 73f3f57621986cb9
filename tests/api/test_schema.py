"""Every call behaves as `openapi.json` says, whatever schemathesis makes up for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from tests.conftest import TWIN, _token, client_of

EXAMPLES = {"positive": 4, "negative": 2}
"""Per call, of what its description allows, and of what it does not."""
UNTOUCHED = {
    ("DELETE", "/api/v1/me"),  # the person who is asking
    ("POST", "/api/v1/auth/logout"),
    ("DELETE", "/api/v1/admin/people/{person_id}"),
    ("POST", "/api/v1/models/pull"),  # would ask servers elsewhere
}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, Any]]]:
    """An admin, who reaches every call, and the application as it describes itself."""
    from mongars.api.app import create_app
    from mongars.body import Body
    from mongars.settings import load

    environ = {
        "MONGARS_LLM__BACKEND": TWIN,
        "MONGARS_CORTEX__TITLES": "false",
        "MONGARS_LIMITS__MESSAGES_PER_MINUTE": "100000",
    }
    data = tmp_path / "data"
    opened = load(data, environ)
    async with Body.open(opened, data) as body:
        token = await _token(body, "root-admin", admin=True)
        async with client_of(body, token) as client:
            yield client, create_app(opened).openapi()


def operations(described: dict[str, Any]) -> list[Any]:
    """Every call that may be tried by whoever wants to go on asking."""
    import schemathesis

    schema = schemathesis.openapi.from_dict(described)
    found = [one.ok() for one in schema.get_all_operations()]
    return [one for one in found if (one.method.upper(), one.path) not in UNTOUCHED]


def _part(part: Any) -> Any:
    """A part of a form, whose value is text or bytes."""
    if not isinstance(part, tuple):
        return part
    return tuple(str(one) if isinstance(one, int | float) else one for one in part)


async def tried(client: httpx.AsyncClient, case: Any) -> None:
    """Ask, and compare the answer with what was promised."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    asked = case.as_transport_kwargs(base_url="http://testserver")
    asked.pop("cookies", None)
    asked = {name: value for name, value in asked.items() if value is not None}
    content = asked.pop("data", None)
    if isinstance(content, dict):
        asked["data"] = content
    elif content is not None:
        asked["content"] = content
    if files := asked.pop("files", None):
        asked["files"] = [(name, _part(part)) for name, part in files]
    request = client.build_request(**asked)
    request.headers.update(client.headers)
    await request.aread()
    answered = await client.send(request, follow_redirects=False)
    if answered.status_code in (501, 503):  # said so: a provider that is not configured
        assert answered.json()["type"].startswith("urn:mongars:problem:")
        return
    case.validate_response(
        answered,
        checks=[
            not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ],
    )


def try_all(client: httpx.AsyncClient, found: list[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Try what schemathesis makes up for each call; the same every time."""
    from schemathesis import GenerationMode

    wrong = []
    for operation in found:
        for mode in GenerationMode:

            @seed(20260101)
            @settings(
                max_examples=EXAMPLES[mode.value],
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(mode))
            def one(case: Any) -> None:
                asyncio.run_coroutine_threadsafe(tried(client, case), loop).result(30)

            try:
                one()
            except Unsatisfiable:  # nothing can be wrong about a call that takes nothing
                assert mode is GenerationMode.NEGATIVE
            except BaseException as error:
                wrong.append(f"{operation.method} {operation.path} ({mode.value}): {error!r}")
    assert wrong == [], "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_call_keeps_what_its_description_promises(
    served: tuple[httpx.AsyncClient, dict[str, Any]],
) -> None:
    client, described = served
    found = operations(described)
    assert len(found) > 70
    await asyncio.to_thread(try_all, client, found, asyncio.get_running_loop())
    assert (await client.get("/api/v1/me")).status_code == 200
