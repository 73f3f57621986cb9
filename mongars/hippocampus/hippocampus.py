"""The main class: conversations as routes and other organs ask for them.

What changes is told on the person's topic, so that their other devices can look again.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, Literal

import orjson
from sqlalchemy.dialects import postgresql, sqlite

from mongars.bus import Bus
from mongars.database import SYSTEM, Database, Writing
from mongars.errors import Conflict, Invalid, NotBuilt
from mongars.hippocampus import erasing, exporting, listing, preset, store
from mongars.hippocampus.archive import Archive
from mongars.hippocampus.files import File, Files, finish
from mongars.hippocampus.importing import Imported, Importer
from mongars.hippocampus.listing import Filter, Hit
from mongars.hippocampus.message import Conversation, Message
from mongars.hippocampus.paging import Part
from mongars.hippocampus.preset import Preset
from mongars.hippocampus.settings import HippocampusSettings
from mongars.hippocampus.tables import feedback
from mongars.ids import new_id, now
from mongars.jobs import Jobs, Work

ERASE: Final = "conversations.erase"
IMPORT: Final = "conversations.import"
EXPORT: Final = "conversations.export"
FORMATS: Final = ("mongars", "chatgpt", "openwebui")
BUILT: Final = "mongars"
What = Literal["conversation", "message"]


def person_topic(owner_id: str) -> str:
    """Where it is told what changed for a person."""
    return f"person:{owner_id}"


class Hippocampus:
    """(Memory) What was said: kept, found again, corrected, forgotten."""

    def __init__(
        self,
        database: Database,
        jobs: Jobs,
        bus: Bus,
        data_dir: Path,
        settings: HippocampusSettings,
    ) -> None:
        self.settings = settings
        self._database = database
        self._jobs = jobs
        self._bus = bus
        self._data_dir = data_dir
        self._files = Files(database)
        jobs.register(ERASE, self._erase)
        jobs.register(IMPORT, self._import, at_once=1)
        jobs.register(EXPORT, self._export, at_once=1)

    def changed(self, w: Writing, owner_id: str, what: What, id_: str) -> None:
        """Tell the person's devices of this once the transaction is on disk."""
        news = orjson.dumps({"changed": {"what": what, "id": id_}})
        w.on_commit(lambda: self._bus.publish(person_topic(owner_id), news))

    # Conversations

    async def conversations(
        self, owner_id: str, wanted: Filter, cursor: str | None, limit: int
    ) -> Part[Conversation]:
        """A part of the list: pinned ones first, then by the last word in them."""
        async with self._database.reading(owner_id) as r:
            return await listing.listed(r, owner_id, wanted, cursor, limit)

    async def begin(self, owner_id: str, **values: Any) -> Conversation:
        """A new conversation; the values are those of `create_conversation`."""
        async with self._database.writing(owner_id) as w:
            begun = await store.create_conversation(w, owner_id, **values)
            self.changed(w, owner_id, "conversation", begun.id)
        return begun

    async def conversation(self, owner_id: str, conversation_id: str) -> Conversation:
        """One conversation. Raises `Missing`."""
        async with self._database.reading(owner_id) as r:
            return await store.conversation(r, owner_id, conversation_id)

    async def change(
        self, owner_id: str, conversation_id: str, values: Mapping[str, Any]
    ) -> Conversation:
        """Change some fields of a conversation, `active_leaf_id` among them. Raises `Missing`."""
        plain = dict(values)
        async with self._database.writing(owner_id) as w:
            if "title" in plain:
                await store.set_title(w, owner_id, conversation_id, plain.pop("title"), "person")
            if "active_leaf_id" in plain:
                leaf_id = plain.pop("active_leaf_id")
                await store.set_active_leaf(w, owner_id, conversation_id, leaf_id)
            if plain:
                await store.set_fields(w, owner_id, conversation_id, plain)
            self.changed(w, owner_id, "conversation", conversation_id)
            return await store.conversation(w, owner_id, conversation_id)

    async def delete(self, owner_id: str, conversation_id: str) -> None:
        """Hide a conversation at once; it is gone once it cannot be restored. Raises `Missing`."""
        at = now()
        payload = {"conversation_id": conversation_id, "hidden_at": at.isoformat()}
        after = at + timedelta(seconds=self.settings.restore_s)
        async with self._database.writing(owner_id) as w:
            await erasing.hide(w, owner_id, conversation_id, at)
            await self._jobs.enqueue(w, ERASE, payload, owner_id=owner_id, run_after=after)
            self.changed(w, owner_id, "conversation", conversation_id)

    async def restore(self, owner_id: str, conversation_id: str) -> Conversation:
        """Bring a deleted conversation back. Raises `Missing` when it is too late."""
        earliest = now() - timedelta(seconds=self.settings.restore_s)
        async with self._database.writing(owner_id) as w:
            await erasing.show_again(w, owner_id, conversation_id, earliest)
            self.changed(w, owner_id, "conversation", conversation_id)
            return await store.conversation(w, owner_id, conversation_id)

    async def fork(
        self, owner_id: str, conversation_id: str, message_id: str | None = None
    ) -> Conversation:
        """A new conversation with a copy of the branch that ends in this message, or is in view.

        Raises `Missing`; `Conflict` while one of its messages is still being written.
        """
        async with self._database.writing(owner_id) as w:
            talk = await store.conversation(w, owner_id, conversation_id)
            leaf_id = message_id or talk.active_leaf_id
            if leaf_id is None:
                raise Conflict("Nothing was said here yet.")
            said = await store.branch(w, owner_id, conversation_id, leaf_id)
            if not said:
                raise store.no_message()
            if any(one.state == "writing" for one in said):
                raise Conflict("An answer in this branch is still being written.")
            begun = await store.create_conversation(
                w,
                owner_id,
                title=talk.title,
                model=talk.model,
                system_prompt=talk.system_prompt,
                temperature=talk.temperature,
                tags=talk.tags,
                temporary=talk.temporary,
            )
            copies = _copies(said, begun.id)
            await store.insert_messages(w, [store.message_row(owner_id, one) for one in copies])
            await store.set_active_leaf(w, owner_id, begun.id, copies[-1].id)
            self.changed(w, owner_id, "conversation", begun.id)
        return replace(begun, active_leaf_id=copies[-1].id)

    # Messages

    async def messages(
        self,
        owner_id: str,
        conversation_id: str,
        *,
        tree: bool = False,
        cursor: str | None = None,
        before: str | None = None,
        limit: int,
    ) -> Part[Message]:
        """What was said: the branch in view or the whole tree, in order. Raises `Missing`.

        From the root on by `cursor`, or backwards from the message `before`.
        """
        async with self._database.reading(owner_id) as r:
            talk = await store.conversation(r, owner_id, conversation_id)
            if tree:
                return await listing.tree(
                    r, owner_id, talk, cursor=cursor, before=before, limit=limit
                )
            if before is not None:
                return await listing.leading_to(r, owner_id, talk, before, limit)
            return await listing.on_branch(r, owner_id, talk, cursor, limit)

    async def message(self, owner_id: str, message_id: str) -> Message:
        """One message. Raises `Missing`."""
        async with self._database.reading(owner_id) as r:
            return await store.message(r, owner_id, message_id)

    async def history(
        self, owner_id: str, conversation_id: str | None, before: str | None, limit: int
    ) -> Part[Message]:
        """What was said in one conversation or in all, newest first. Raises `Missing`."""
        async with self._database.reading(owner_id) as r:
            return await listing.history(r, owner_id, conversation_id, before, limit)

    async def search(self, owner_id: str, query: str, cursor: str | None, limit: int) -> Part[Hit]:
        """Conversations in whose title or texts these words stand."""
        async with self._database.reading(owner_id) as r:
            return await listing.search(r, owner_id, query, cursor, limit)

    async def judge(
        self, owner_id: str, message_id: str, value: int, text: str | None, at: datetime
    ) -> None:
        """Keep what a person thinks of a message; the newest word counts. Raises `Missing`."""
        store.storable(text)
        async with self._database.writing(owner_id) as w:
            await store.message(w, owner_id, message_id)
            insert = postgresql.insert if w.dialect == "postgresql" else sqlite.insert
            said = {"value": value, "text": text, "at": at}
            await w.execute(
                insert(feedback)
                .values(message_id=message_id, owner_id=owner_id, **said)
                .on_conflict_do_update(index_elements=["message_id"], set_=said)
            )
            self.changed(w, owner_id, "message", message_id)

    # Presets

    async def presets(self, owner_id: str) -> list[Preset]:
        """All of them, by name."""
        async with self._database.reading(owner_id) as r:
            return list(await preset.listed(r, owner_id))

    async def add_preset(self, owner_id: str, name: str, **values: Any) -> Preset:
        """A new preset. Raises `Conflict` when there is one of this name."""
        made = Preset(id=new_id(), name=name, created_at=now(), **values)
        async with self._database.writing(owner_id) as w:
            await preset.add(w, owner_id, made)
        return made

    async def change_preset(
        self, owner_id: str, preset_id: str, values: Mapping[str, Any]
    ) -> Preset:
        """Change some of its fields. Raises `Missing` and `Conflict`."""
        async with self._database.writing(owner_id) as w:
            return await preset.change(w, owner_id, preset_id, values)

    async def remove_preset(self, owner_id: str, preset_id: str) -> None:
        """Remove it. Raises `Missing`."""
        async with self._database.writing(owner_id) as w:
            await preset.remove(w, owner_id, preset_id)

    # In and out

    async def bring_in(
        self, owner_id: str, form: str, entries: list[Any], presets: list[Any] | None = None
    ) -> Imported:
        """Bring conversations and presets in. Raises `NotBuilt` for the formats that are not."""
        check_format(form)
        importer = Importer(self._database, owner_id)
        for one in entries:
            await importer.add(one)
        await importer.flush()
        await importer.add_presets(presets)
        self._tell_list(owner_id)
        return importer.imported

    def _tell_list(self, owner_id: str) -> None:
        news = orjson.dumps({"changed": {"what": "conversations", "id": owner_id}})
        self._bus.publish(person_topic(owner_id), news)

    async def take_file(self, owner_id: str, name: str, content: AsyncIterable[bytes]) -> str:
        """Take a file in as it comes; its id. Raises `TooLarge`."""
        file_id = new_id()
        most = self.settings.import_bytes
        size = await self._files.write(owner_id, file_id, "import", name, content, most)
        async with self._database.writing(owner_id) as w:
            await finish(w, owner_id, file_id, size)
        return file_id

    async def drop_file(self, owner_id: str, file_id: str) -> None:
        """Remove a file that was taken in."""
        await self._files.remove(owner_id, file_id)

    async def import_file(self, owner_id: str, form: str, file_id: str) -> str:
        """Bring a file that was taken in into memory, in a job; its id. Raises `NotBuilt`."""
        check_format(form)
        async with self._database.writing(owner_id) as w:
            return await self._jobs.enqueue(
                w, IMPORT, {"file_id": file_id}, owner_id=owner_id, unit="bytes"
            )

    async def export(self, owner_id: str, conversation_id: str) -> bytes:
        """One conversation as a file in the mongars format. Raises `Missing`."""
        async with self._database.reading(owner_id) as r:
            return exporting.document([await exporting.entry(r, owner_id, conversation_id)])

    async def markdown(self, owner_id: str, conversation_id: str) -> str:
        """The branch in view of one conversation, for reading. Raises `Missing`."""
        async with self._database.reading(owner_id) as r:
            talk = await store.conversation(r, owner_id, conversation_id)
            leaf_id = talk.active_leaf_id
            said = await store.branch(r, owner_id, talk.id, leaf_id) if leaf_id else []
        return exporting.markdown(talk, said)

    async def export_all(self, owner_id: str) -> str:
        """Write everything of a person into a file, in a job; its id, by which the file is read."""
        async with self._database.writing(owner_id) as w:
            return await self._jobs.enqueue(
                w, EXPORT, {}, owner_id=owner_id, unique_key=owner_id, unit="conversations"
            )

    async def exported(self, owner_id: str, job_id: str) -> tuple[File, AsyncIterable[bytes]]:
        """The file that an export wrote. Raises `Missing`."""
        file = await self._files.get(owner_id, job_id, "export")
        return file, self._files.read(owner_id, job_id)

    # What happens by itself

    async def sweep(self, at: datetime) -> None:
        """Remove what has had its time: temporary conversations, deleted ones, files."""
        hidden_before = at - timedelta(seconds=self.settings.restore_s)
        idle_before = at - timedelta(hours=self.settings.temporary_hours)
        async with self._database.reading(SYSTEM) as r:
            rows = await erasing.overdue(r, hidden_before=hidden_before, idle_before=idle_before)
        for row in rows:
            async with self._database.writing(row.owner_id) as w:
                await erasing.erase_overdue(
                    w, row.owner_id, row.id, hidden_before=hidden_before, idle_before=idle_before
                )
        await self._files.sweep(at - timedelta(hours=self.settings.file_hours))

    async def _erase(self, work: Work) -> None:
        hidden_at = datetime.fromisoformat(work.payload["hidden_at"])
        async with self._database.writing(work.owner_id) as w:
            await erasing.erase(w, work.owner_id, work.payload["conversation_id"], hidden_at)

    async def _import(self, work: Work) -> Mapping[str, Any]:
        owner_id, file_id = work.owner_id, str(work.payload["file_id"])
        await self._files.get(owner_id, file_id, "import")
        importer = Importer(self._database, owner_id)
        try:
            with tempfile.TemporaryFile(dir=self._data_dir) as copy:
                await self._copy(owner_id, file_id, copy)
                await self._read(work, importer, copy)
        except Invalid:
            await self._files.remove(owner_id, file_id)
            raise
        self._tell_list(owner_id)
        await self._files.remove(owner_id, file_id)
        return importer.imported.told()

    async def _copy(self, owner_id: str, file_id: str, to: IO[bytes]) -> None:
        async with contextlib.aclosing(self._files.read(owner_id, file_id)) as parts:
            async for part in parts:
                await asyncio.to_thread(to.write, part)
        to.seek(0)

    async def _read(self, work: Work, importer: Importer, file: IO[bytes]) -> None:
        """Bring in what can be read; raises `Invalid` when that is nothing at all."""
        archive = Archive(
            file,
            unpacked=self.settings.import_unpacked_bytes,
            entry=self.settings.import_entry_bytes,
        )
        entries, end = iter(archive), object()
        broke_off: Invalid | None = None
        while broke_off is None:
            try:
                given = await asyncio.to_thread(next, entries, end)
            except Invalid as fault:
                broke_off = fault
                break
            if given is end:
                break
            if await importer.add(given):
                await work.progress(archive.done, archive.total, "bytes")
        await importer.flush()
        await importer.add_presets(archive.others.get("presets"))
        await work.progress(archive.done, archive.total, "bytes")
        if broke_off is None:
            return
        if not importer.imported.conversations and not importer.imported.messages:
            raise Invalid(f"Nothing was brought in: {broke_off.detail}.") from broke_off
        importer.broke_off(broke_off.detail)

    async def _export(self, work: Work) -> Mapping[str, Any]:
        owner_id, job_id = work.owner_id, work.job_id
        export = exporting.Export(self._database, owner_id)
        total = await export.total()

        async def content() -> Any:
            async with contextlib.aclosing(export.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
                    await work.progress(export.conversations, total, "conversations")

        size = await self._files.write(owner_id, job_id, "export", "mongars.json", content(), 2**62)
        async with self._database.writing(owner_id) as w:
            await finish(w, owner_id, job_id, size)
        return {
            "path": f"/api/v1/me/exports/{job_id}",
            "bytes": size,
            "conversations": export.conversations,
            "messages": export.messages,
        }


def check_format(form: str) -> None:
    """Raises `NotBuilt` for a format that is known and cannot be read yet."""
    if form != BUILT:
        raise NotBuilt(f"Reading conversations of the format {form} is not built yet.")


def _copies(said: list[Message], conversation_id: str) -> list[Message]:
    """The same messages in another conversation, each following the one before."""
    copies: list[Message] = []
    for one in said:
        parent_id = copies[-1].id if copies else None
        copies.append(
            replace(one, id=new_id(), conversation_id=conversation_id, parent_id=parent_id)
        )
    return copies
