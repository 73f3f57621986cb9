"""Long work of this organ: adding a model in the background."""

from mongars.jobs import Jobs, Work
from mongars.llm.download import Downloads

PULL = "models.pull"
"""The kind of job that adds a model; its payload is `{"source": …}`."""


def register(jobs: Jobs, downloads: Downloads) -> None:
    """Let these jobs be worked on; one download at a time."""

    async def pull(work: Work) -> dict[str, object]:
        async def progress(done: int, total: int | None) -> None:
            await work.progress(done, total, "bytes")

        card = await downloads.pull(str(work.payload["source"]), progress=progress)
        return {
            "model": card.full_name,
            "digest": card.digest,
            "size_bytes": card.size_bytes,
        }

    jobs.register(PULL, pull, at_once=1)
