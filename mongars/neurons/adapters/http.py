"""Asking a server for vectors: one request, its faults in our terms, rows of length 1."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from mongars.errors import Fault, Missing, NotConfigured, Unavailable

if TYPE_CHECKING:
    from mongars.neurons.ports import Vectors

SHOWN_CHARS = 200


async def ask(
    client: httpx.AsyncClient, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The answer's JSON. Raises `Unavailable`, `Missing` or `NotConfigured`."""
    where = f"{client.base_url}".rstrip("/")
    content = None if body is None else orjson.dumps(body)
    try:
        answer = await client.request(method, path, content=content)
        told = orjson.loads(answer.content) if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(f"The encoder at {where} does not answer: {reason}") from error
    except orjson.JSONDecodeError as error:
        raise Unavailable(f"The encoder at {where} did not answer in JSON.") from error
    if told is None:
        raise _refused(answer, where)
    if not isinstance(told, dict):
        raise Unavailable(f"The encoder at {where} did not answer with an object.")
    return told


def _refused(answer: httpx.Response, where: str) -> Fault:
    said = answer.text[:SHOWN_CHARS]
    if answer.status_code in (401, 403):
        return NotConfigured(
            f"The encoder at {where} wants another key: set MONGARS_NEURONS__API_KEY."
        )
    if answer.status_code == 404:
        return Missing(f"The encoder at {where} does not have this: {said}")
    return Unavailable(f"The encoder at {where} answered {answer.status_code}: {said}")


def unit_rows(rows: object, count: int) -> "Vectors":
    """What a server sent as `[count, d]` of length 1. Raises `Unavailable` for anything else."""
    import numpy as np

    try:
        found = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise Unavailable("The encoder answered with something else than vectors.") from error
    if found.ndim != 2 or found.shape[0] != count or found.shape[1] == 0:
        raise Unavailable(f"The encoder did not answer with {count} vectors.")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not np.isfinite(found).all() or not lengths.all():
        raise Unavailable("The encoder answered with a vector that has no direction.")
    unit: Vectors = (found / lengths).astype(np.float32, copy=False)
    return unit
