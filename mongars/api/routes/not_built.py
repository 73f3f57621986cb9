"""Parts whose names are fixed and that are not built yet: they say so."""

from fastapi import APIRouter

from mongars.api.security import Person
from mongars.api.strict import StrictRoute
from mongars.errors import NotBuilt

PREFIX = ""
METHODS = ["GET", "POST", "PATCH", "DELETE"]

PARTS = {
    "memories": "The memory of facts and documents",
    "documents": "Reading documents",
    "personality": "The personality",
    "peers": "Reaching other nodes",
}

router = APIRouter(include_in_schema=False, route_class=StrictRoute)


def _add(path: str, part: str) -> None:
    async def not_built(caller: Person) -> None:
        raise NotBuilt(f"{part} is not built yet; docs/index.md says what is.")

    name = path.strip("/").replace("/", "_")
    router.add_api_route(path, not_built, methods=METHODS, name=f"not_built_{name}")
    router.add_api_route(
        path + "/{rest:path}", not_built, methods=METHODS, name=f"not_built_{name}_below"
    )


for _name, _part in PARTS.items():
    _add(f"/api/v1/{_name}", _part)
_add("/mcp", "Speaking MCP")
