"""What the doctor looks at."""

import ctypes
import socket
import sys
from pathlib import Path

import pytest

from mongars.cli import checks, libraries
from mongars.errors import NotConfigured
from mongars.settings import Settings, load


def test_a_missing_library_comes_with_the_line_that_adds_it() -> None:
    lacking = libraries.missing({"libgomp.so.1": "libgomp1", "libnowhere.so.9": "libnowhere9"})
    if sys.platform.startswith("linux"):
        assert lacking == ["libnowhere.so.9"]
        ctypes.CDLL("libgomp.so.1")
    assert libraries.remedy(["libgomp.so.1"]).endswith("libgomp1")


def test_a_directory_that_others_can_read_is_said_with_its_remedy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert checks.data_directory(data).found == "note"
    data.mkdir(mode=0o700)
    assert checks.data_directory(data).found == "ok"
    (data / "mongars.db").touch(mode=0o644)
    (data / "mongars.db").chmod(0o644)
    told = checks.data_directory(data)
    assert told.found == "missing"
    assert told.remedy == f"chmod -R go= {data}"


async def test_the_database_is_asked_for_its_schema(tmp_path: Path) -> None:
    from mongars.database import Database, migrate

    settings = Settings()
    assert (await checks.database(settings, tmp_path)).found == "note"
    async with Database.open(settings.database, tmp_path) as database:
        await migrate.upgrade(database, "0001")
    told = await checks.database(settings, tmp_path)
    assert (told.found, told.remedy) == ("missing", "mongars migrate")
    async with Database.open(settings.database, tmp_path) as database:
        await migrate.upgrade(database)
    assert (await checks.database(settings, tmp_path)).found == "ok"


async def test_a_database_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    address = "postgresql://nobody:x@127.0.0.1:1/none"
    settings = load(tmp_path, {"MONGARS_DATABASE__URL": address})
    assert (await checks.database(settings, tmp_path)).found == "missing"


async def test_redis_is_asked_where_it_is_configured(tmp_path: Path, redis_url: str) -> None:
    assert (await checks.redis(Settings())).found == "ok"
    settings = load(tmp_path, {"MONGARS_REDIS__URL": redis_url})
    assert (await checks.redis(settings)).said == "answers"
    away = load(tmp_path, {"MONGARS_REDIS__URL": "redis://127.0.0.1:1/0"})
    assert (await checks.redis(away)).found == "missing"


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = load(tmp_path, {"MONGARS_API__PORT": str(taken.getsockname()[1])})
        assert checks.port(settings, tmp_path).found == "missing"
    assert checks.port(settings, tmp_path).found == "ok"


@pytest.mark.parametrize("backend", ["ollama", "openai"])
async def test_a_named_server_that_does_not_answer_is_missing(tmp_path: Path, backend: str) -> None:
    settings = load(
        tmp_path, {"MONGARS_LLM__BACKEND": backend, "MONGARS_LLM__URL": "http://127.0.0.1:1"}
    )
    assert [check.found for check in await checks.models(settings)] == ["missing"]


async def test_auto_says_which_backend_answers(tmp_path: Path) -> None:
    settings = load(tmp_path, {"MONGARS_LLM__URL": "http://127.0.0.1:1"})
    told = {check.name: check for check in await checks.models(settings)}
    assert told["ollama"].found == "note"
    assert told["model"].said == "auto: embedded answers"


async def test_wrong_settings_are_said_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    fault = NotConfigured("there is no setting MONGARS_LLM__MODLE")
    told = [check async for check in checks.all_checks(fault, tmp_path)]
    assert [check.name for check in told if check.found == "missing"] == ["settings"]
    assert {"python", "libraries", "disk", "memory"} <= {check.name for check in told}


async def test_a_damaged_database_is_said_with_the_way_back(tmp_path: Path) -> None:
    from mongars.database import Database, migrate

    settings = Settings()
    async with Database.open(settings.database, tmp_path) as database:
        await migrate.upgrade(database)
    file = tmp_path / "mongars.db"
    content = bytearray(file.read_bytes())
    content[-8192:] = b"\xff" * 8192
    file.write_bytes(content)
    told = await checks.database(settings, tmp_path)
    assert told.found == "missing"
    assert told.remedy == checks.RESTORE
