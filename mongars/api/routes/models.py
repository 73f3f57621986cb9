"""Which models there are, better ones to add, and which one answers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter
from pydantic import StringConstraints

from mongars.api.dependencies import BodyDep
from mongars.api.security import Admin, Person
from mongars.api.shapes import Asked, Enqueued, Line, Page, Told
from mongars.api.strict import StrictRoute
from mongars.body import Body
from mongars.errors import Conflict, Fault
from mongars.llm import PULL, Installed, ModelCard, facts_of

router = APIRouter(tags=["models"], route_class=StrictRoute)

SourceText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class ModelTold(Told):
    """A model that could answer. What its backend does not tell is null."""

    id: str
    """Full name: `backend/name`."""
    name: str
    backend: str
    in_use: bool
    chat: bool
    """Whether it chats; false for models that only turn texts into vectors."""
    digest: str | None
    size_bytes: int | None
    context_tokens: int | None
    built_in: bool
    removable: bool
    source: str | None
    """Where a downloaded file came from."""
    licence: str | None
    verified: bool | None
    """Whether a downloaded file was compared with a checksum; null where it is no file of ours."""
    capabilities: "CapabilitiesTold | None" = None
    """What it can; told of the one in use, null of the others."""


class CapabilitiesTold(Told):
    """What a model can; null is not known. Speeds are in tokens a second."""

    context_tokens: int | None
    tools: bool | None
    json_schema: bool | None
    vision: bool | None
    thinking: bool | None
    embeddings: bool | None
    reading_per_s: float | None
    writing_per_s: float | None


class RecommendedTold(Told):
    """A better model that this machine can carry. Speed and memory are rough expectations."""

    name: str
    parameters_b: float
    licence: str
    download_bytes: int
    memory_bytes: int
    tokens_per_s: float
    tight: bool
    """It fits, but not into the memory that other programs leave free right now."""
    why_not: str | None
    """Why this machine cannot carry it; null where it can."""
    source: str
    """What `POST /models/pull` takes, for the embedded backend."""
    ollama_source: str
    """The same for Ollama."""
    note: str


class ModelsTold(Page[ModelTold]):
    """All models, and what could not be asked."""

    in_use: str | None
    """Full name of the model that answers now."""
    recommended: Sequence[RecommendedTold]
    notices: Sequence[str]


class PullAsked(Asked):
    """A model to add."""

    source: SourceText
    """A recommended name, `OWNER/REPO[/FILE.gguf]` of a hub, `https://…/FILE.gguf[#sha256=HEX]`, or
    `ollama/NAME`."""

    accept_license: bool = False
    """The clear yes to the model's licence and size. Without it the answer is 409
    `license-not-accepted`, with `model`, `license`, `size_bytes` and `sha256` to decide by."""


class UseAsked(Asked):
    """A model to answer from now on."""

    model: Annotated[Line, StringConstraints(pattern=r"^(auto|[^/]+/.+)$")]
    """Full name (`backend/name`), or `auto`."""


class UseTold(Told):
    """What answers from now on; null: chosen by what is there."""

    model: str | None


@router.get("/models")
async def list_models(body: BodyDep, caller: Person, all_models: bool = False) -> ModelsTold:
    """What there is and what could be added; `all_models` also tells what is too large for here."""
    inventory = await body.models.inventory()
    installed = {one.card.full_name: one for one in inventory.installed}
    living = await body.llm.models()
    for card in living:
        here = installed.get(card.full_name, Installed(card))
        known = replace(here.card, context_tokens=card.context_tokens)
        installed[card.full_name] = Installed(known, here.local)
    in_use = _in_use(body, living)
    able = None if in_use is None else await _capabilities(body, in_use)
    return ModelsTold(
        items=[_told(one, in_use, able) for one in installed.values()],
        in_use=in_use,
        recommended=[
            RecommendedTold(**facts_of(one))
            for one in body.models.recommended(all_models=all_models)
        ],
        notices=inventory.notices,
    )


@router.post("/models/pull", status_code=202)
async def pull_model(asked: PullAsked, body: BodyDep, caller: Admin) -> Enqueued:
    """Add a model in the background, after a clear yes."""
    if not asked.accept_license:
        offer = await body.models.downloads.offer(asked.source)
        raise Conflict(
            f"{offer.sentence} Ask again with accept_license to add it.",
            slug="license-not-accepted",
            extra={
                "model": offer.full_name,
                "license": offer.licence,
                "size_bytes": offer.size_bytes,
                "sha256": offer.sha256,
            },
        )
    body.models.downloads.check(asked.source)
    async with body.database.writing(caller.id) as w:
        job_id = await body.jobs.enqueue(
            w,
            PULL,
            {"source": asked.source},
            owner_id=caller.id,
            unique_key=asked.source,
            unit="bytes",
        )
    return Enqueued(job_id=job_id)


@router.post("/models/use")
async def use_model(asked: UseAsked, body: BodyDep, caller: Admin) -> UseTold:
    """Let this model answer from now on, where a conversation names no other."""
    await body.llm.use(asked.model)
    body.models.library.use(asked.model)
    return UseTold(model=body.models.library.in_use())


@router.delete("/models/{model_id:path}", status_code=204)
async def remove_model(model_id: str, body: BodyDep, caller: Admin) -> None:
    """Delete a model's file, or have Ollama delete it. The one in use and the built-in one stay."""
    in_use = _in_use(body, await body.llm.models())
    await body.models.remove(model_id, in_use=[] if in_use is None else [in_use])


def _in_use(body: Body, living: Sequence[ModelCard]) -> str | None:
    """The full name of the model that answers; without a choice the first of the chosen backend."""
    status = body.llm.status()
    if status.model is not None:
        return f"{status.backend}/{status.model}"
    chat = (card.full_name for card in living if card.backend == status.backend and card.chat)
    return next(chat, None)


async def _capabilities(body: Body, full_name: str) -> CapabilitiesTold | None:
    """What the model in use can; `None` while it cannot be asked."""
    if body.llm.status().state != "ready":
        return None
    try:
        return CapabilitiesTold.model_validate(await body.llm.capabilities(full_name))
    except Fault:
        return None


def _told(one: Installed, in_use: str | None, able: CapabilitiesTold | None) -> ModelTold:
    facts = one.facts(in_use)
    return ModelTold(**facts, capabilities=able if facts["in_use"] else None)
