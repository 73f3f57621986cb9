"""Conversations in and out: import and export."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from mongars.api.conversation_shapes import ImportAsked, ImportTold
from mongars.api.dependencies import BodyDep
from mongars.api.security import Chatter, Reader, SignedIn
from mongars.api.shapes import Enqueued
from mongars.api.strict import StrictRoute, read_json
from mongars.errors import FieldFault, Invalid
from mongars.hippocampus import FORMATS, check_format

router = APIRouter(tags=["conversations"], route_class=StrictRoute)

PIECE = 1024 * 1024
FILE = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "format": {"type": "string", "enum": list(FORMATS), "default": "mongars"},
    },
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ImportAsked.model_json_schema()},
            "multipart/form-data": {"schema": FILE},
        },
    }
}


@router.post(
    "/conversations/import",
    response_model=ImportTold,
    responses={202: {"model": Enqueued}},
    openapi_extra=BODY,
)
async def import_conversations(request: Request, body: BodyDep, caller: Chatter) -> Response:
    """Bring conversations in: a JSON body at once, a file (zip or JSON) as a job.

    The same ones twice are there once.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        job_id = await _import_file(request, body, caller.id)
        return JSONResponse({"job_id": job_id}, 202)
    try:
        asked = ImportAsked.model_validate(read_json(await request.body()))
    except ValidationError as error:
        faults = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(faults) from error
    imported = await body.hippocampus.bring_in(
        caller.id, asked.format, asked.conversations, asked.presets
    )
    return JSONResponse(ImportTold.of(imported).model_dump(mode="json"))


async def _import_file(request: Request, body: BodyDep, owner_id: str) -> str:
    async with request.form(max_files=1, max_fields=4) as form:
        form_format = form.get("format", "mongars")
        if not isinstance(form_format, str) or form_format not in FORMATS:
            raise _wrong("format", f"must be one of {', '.join(FORMATS)}")
        check_format(form_format)
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise _wrong("file", "must be a file")
        name = (file.filename or "import")[:200]
        file_id = await body.hippocampus.take_file(owner_id, name, _pieces(file))
    return await body.hippocampus.import_file(owner_id, form_format, file_id)


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(PIECE):
        yield piece


def _wrong(field: str, msg: str) -> Invalid:
    return Invalid(
        "Some fields are not as they must be.", errors=[FieldFault(("body", field), msg)]
    )


@router.get("/me/export", status_code=202)
async def export_all(body: BodyDep, caller: SignedIn) -> Enqueued:
    """Write everything one said into a file, as a job; its result tells where the file is."""
    return Enqueued(job_id=await body.hippocampus.export_all(caller.id))


@router.get(
    "/me/exports/{job_id}",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/json": {}}}},
)
async def download_export(job_id: str, body: BodyDep, caller: Reader) -> StreamingResponse:
    """The file that an export wrote; it lies ready for a day."""
    file, content = await body.hippocampus.exported(caller.id, job_id)
    headers = {
        "content-disposition": 'attachment; filename="mongars.json"',
        "content-length": str(file.bytes),
    }
    return StreamingResponse(content, media_type="application/json", headers=headers)
