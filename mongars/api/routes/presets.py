"""Presets: what conversations can begin with."""

from fastapi import APIRouter, Response

from mongars.api.conversation_shapes import PresetAsked, PresetChanged, PresetTold
from mongars.api.dependencies import BodyDep
from mongars.api.security import Chatter, Reader
from mongars.api.shapes import Page
from mongars.api.strict import StrictRoute

router = APIRouter(tags=["conversations"], route_class=StrictRoute)


@router.get("/presets")
async def list_presets(body: BodyDep, caller: Reader) -> Page[PresetTold]:
    """One's own presets, by name."""
    presets = await body.hippocampus.presets(caller.id)
    return Page(items=[PresetTold.of(one) for one in presets])


@router.post("/presets", status_code=201)
async def add_preset(asked: PresetAsked, body: BodyDep, caller: Chatter) -> PresetTold:
    """A new preset."""
    return PresetTold.of(await body.hippocampus.add_preset(caller.id, **asked.model_dump()))


@router.patch("/presets/{preset_id}")
async def change_preset(
    preset_id: str, asked: PresetChanged, body: BodyDep, caller: Chatter
) -> PresetTold:
    """Change some of its fields."""
    values = asked.model_dump(exclude_unset=True)
    return PresetTold.of(await body.hippocampus.change_preset(caller.id, preset_id, values))


@router.delete("/presets/{preset_id}", status_code=204)
async def remove_preset(preset_id: str, body: BodyDep, caller: Chatter) -> Response:
    """Remove it."""
    await body.hippocampus.remove_preset(caller.id, preset_id)
    return Response(status_code=204)
