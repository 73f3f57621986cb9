"""What a model hub says about a repository, through huggingface_hub.

The library is slow to import and only needed here, so it is loaded on the first question. The
bytes themselves come through `mongars.llm.fetch`, which can be cancelled and resumed, and which
asks for the exact commit that was described.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mongars.errors import Forbidden, Invalid, Missing, Unavailable

_PREFERRED = ("q4_k_m", "q4_k", "q5_k_m", "q4_1", "q4_0", "q8_0")
"""Which quantisation is taken from a repository that has several, best first."""


@dataclass(frozen=True)
class HubFile:
    """One file of a repository, at one commit."""

    repository: str
    path: str
    commit: str
    url: str
    size_bytes: int | None
    sha256: str | None
    licence: str | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Hub:
    """One model hub. `url` left out: the one that huggingface_hub knows. `token` for models whose
    terms an account has accepted there."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self._url = url
        self._token = token

    async def file(self, repository: str, path: str | None, revision: str | None) -> HubFile:
        """What the hub says about this file; without `path` the best GGUF for a small machine.

        Faults: `Missing`, `Forbidden` (its terms must be accepted there), `Unavailable`, `Invalid`
        (no such file is one that can be used; the message lists those that can).
        """
        return await asyncio.to_thread(self._file, repository, path, revision)

    def _file(self, repository: str, path: str | None, revision: str | None) -> HubFile:
        from huggingface_hub import HfApi, hf_hub_url

        api = HfApi(endpoint=self._url, token=self._token or False)
        info = self._ask(api, repository, revision)
        files = {file.rfilename: file for file in info.siblings or []}
        chosen = _chosen(repository, sorted(files), path)
        described = files[chosen]
        commit = info.sha or "main"
        lfs = described.lfs
        return HubFile(
            repository=repository,
            path=chosen,
            commit=commit,
            url=hf_hub_url(repository, chosen, revision=commit, endpoint=self._url),
            size_bytes=described.size if lfs is None else lfs.size,
            sha256=None if lfs is None else lfs.sha256,
            licence=_licence(info),
            headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
        )

    def _ask(self, api: Any, repository: str, revision: str | None) -> Any:
        from httpx2 import HTTPError
        from huggingface_hub import errors

        try:
            return api.model_info(repository, revision=revision, files_metadata=True, timeout=20.0)
        except errors.GatedRepoError as error:
            raise Forbidden(
                f"{repository} is only given to accounts that accepted its terms. Accept them on the "
                "hub's page and set MONGARS_LLM__HUB_TOKEN."
            ) from error
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise Missing(
                f"The hub has no model repository {repository!r} (or not this revision)."
            ) from error
        except errors.HFValidationError as error:
            raise Invalid(
                f"{repository!r} is not a repository's name such as OWNER/NAME."
            ) from error
        except errors.OfflineModeIsEnabled as error:
            raise Unavailable("HF_HUB_OFFLINE is set: the hub is not asked.") from error
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"The model hub does not answer: {type(error).__name__}.") from error


def _chosen(repository: str, paths: list[str], wanted: str | None) -> str:
    usable = [path for path in paths if _usable(path)]
    if wanted is not None:
        if wanted in paths and not _usable(wanted):
            raise Invalid(f"{wanted} is not one whole GGUF model. {_choice(usable)}")
        if wanted not in paths:
            raise Missing(f"{repository} has no file {wanted!r}. {_choice(usable)}")
        return wanted
    if not usable:
        raise Invalid(
            f"{repository} holds no GGUF file in one piece. Look for a repository whose name ends in "
            "-GGUF."
        )
    for mark in _PREFERRED:
        for path in usable:
            if mark in path.lower():
                return path
    if len(usable) == 1:
        return usable[0]
    raise Invalid(f"{repository} holds several files; say which one. {_choice(usable)}")


def _usable(path: str) -> bool:
    """A whole model: GGUF, not one part of several, not the vision part of another."""
    name = path.lower().rpartition("/")[2]
    return name.endswith(".gguf") and "-of-0" not in name and "mmproj" not in name


def _choice(usable: list[str]) -> str:
    if not usable:
        return "It holds no GGUF file in one piece."
    return f"Usable there: {', '.join(usable[:20])}."


def _licence(info: Any) -> str | None:
    """The licence on the model's card, else its tag."""
    card = info.card_data
    named = None if card is None else (card.get("license_name") or card.get("license"))
    if isinstance(named, str):
        return named
    for tag in info.tags or ():
        if tag.startswith("license:"):
            return str(tag.removeprefix("license:"))
    return None
