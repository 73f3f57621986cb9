"""Presets: a model, a system prompt and a temperature under one name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from mongars.database import Reading, Writing
from mongars.errors import Conflict, Missing
from mongars.hippocampus.store import storable
from mongars.hippocampus.tables import presets


@dataclass(frozen=True)
class Preset:
    """What a conversation can be begun with."""

    id: str
    name: str
    model: str | None
    system_prompt: str | None
    temperature: float | None
    created_at: datetime


_SHOWN = tuple(column for column in presets.c if column.name != "owner_id")


async def add(w: Writing, owner_id: str, preset: Preset) -> None:
    """Keep a preset. Raises `Conflict` when there is one of this name."""
    storable(preset.name, preset.model, preset.system_prompt)
    await _written(w, sa.insert(presets).values(owner_id=owner_id, **vars(preset)))


async def listed(r: Reading, owner_id: str) -> Sequence[Preset]:
    """A person's presets by name."""
    statement = sa.select(*_SHOWN).where(presets.c.owner_id == owner_id).order_by(presets.c.name)
    return [Preset(**row._mapping) for row in await r.all(statement)]


async def change(w: Writing, owner_id: str, preset_id: str, values: Mapping[str, Any]) -> Preset:
    """Change some of its fields. Raises `Missing` and `Conflict`."""
    storable(*(value for value in values.values() if isinstance(value, str)))
    mine = sa.and_(presets.c.id == preset_id, presets.c.owner_id == owner_id)
    if values:
        await _written(w, sa.update(presets).where(mine).values(**values))
    row = await w.one(sa.select(*_SHOWN).where(mine))
    if row is None:
        raise _no_preset()
    return Preset(**row._mapping)


async def remove(w: Writing, owner_id: str, preset_id: str) -> None:
    """Remove it. Raises `Missing`."""
    removed = await w.execute(
        sa.delete(presets).where(presets.c.id == preset_id, presets.c.owner_id == owner_id)
    )
    if removed.rowcount == 0:
        raise _no_preset()


def _no_preset() -> Missing:
    return Missing("There is no such preset.")


async def _written(w: Writing, statement: sa.Insert | sa.Update) -> None:
    try:
        await w.execute(statement)
    except IntegrityError as error:
        raise Conflict("There is a preset of this name already.", slug="name-taken") from error
