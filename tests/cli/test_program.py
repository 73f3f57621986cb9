"""Global options, exit codes, and how the program fails."""

from pathlib import Path

import pytest

from mongars import __version__
from mongars.cli.program import globals_first
from tests.cli.running import mongars
from tests.servers import free_port


def test_it_tells_its_version() -> None:
    told = mongars("--version")
    assert (told.returncode, told.stdout) == (0, f"mongars {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("serve", "--port", "many"), ("serve", "--only", "half")]
)
def test_wrong_usage_exits_with_two(arguments: tuple[str, ...]) -> None:
    told = mongars(*arguments)
    assert told.returncode == 2
    assert "Error" in told.stderr
    assert told.stdout == ""


@pytest.mark.parametrize("command", ["memories", "secrets"])
def test_a_part_that_is_not_built_exits_with_three(command: str) -> None:
    told = mongars(command, "list", "--whatever", "x")
    assert told.returncode == 3
    assert told.stderr.startswith("mongars: ")
    assert "not built yet" in told.stderr


def test_a_fault_is_one_line_and_a_traceback_only_with_debug(tmp_path: Path) -> None:
    told = mongars("users", "list", data=tmp_path, MONGARS_LLM__MODLE="x")
    assert told.returncode == 3
    assert told.stderr.count("\n") == 1
    assert "MONGARS_LLM__MODEL" in told.stderr
    told = mongars("users", "list", "--debug", data=tmp_path, MONGARS_LLM__MODLE="x")
    assert told.returncode == 3
    assert "Traceback" in told.stderr


def test_global_options_may_stand_anywhere_but_behind_two_dashes() -> None:
    assert globals_first(["users", "list", "--data", "d", "--debug"]) == [
        "--data", "d", "--debug", "users", "list",
    ]  # fmt: skip
    assert globals_first(["chat", "--data=d", "--", "--debug"]) == [
        "--data=d", "chat", "--", "--debug",
    ]  # fmt: skip
    assert globals_first(["users", "--data"]) == ["--data", "users"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    asked = {
        "_MONGARS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "mongars us",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "mongars us",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "us",
    }
    assert "users" in mongars(**asked).stdout


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"MONGARS_REDIS__URL": "http://x"}, "MONGARS_REDIS__URL"),
        ({"MONGARS_API__PORT": "99999"}, "api.port"),
        ({"MONGARS_LLM__API_KEY_FILE": "/nowhere"}, "MONGARS_LLM__API_KEY_FILE"),
        ({"MONGARS_LLM__BACKEND": "openai"}, "MONGARS_LLM__URL"),
        ({"MONGARS_LLM__BACKEND": "ray"}, "not built yet"),
    ],
)
def test_a_wrong_setting_is_named_and_exits_with_three(
    tmp_path: Path, named: dict[str, str], said: str
) -> None:
    told = mongars("serve", data=tmp_path / "data", MONGARS_TELEMETRY__LEVEL="error", **named)
    assert told.returncode == 3
    assert told.stderr.count("\n") == 1
    assert said in told.stderr


def test_a_wrong_name_in_the_file_of_settings_is_met_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "mongars.toml").write_text('[llm]\nbakend = "x"')
    told = mongars("serve", data=tmp_path)
    assert told.returncode == 3
    assert told.stderr == "mongars: there is no setting llm.bakend; did you mean llm.backend?\n"


def test_a_directory_that_cannot_be_used_is_said_in_one_line() -> None:
    told = mongars("migrate", data=Path("/proc/mongars"))
    assert told.returncode == 3
    assert told.stderr.count("\n") == 1
    assert "--data" in told.stderr


def test_migrating_a_database_that_is_away_says_so(tmp_path: Path) -> None:
    away = f"postgresql://a:b@127.0.0.1:{free_port()}/x"
    told = mongars("migrate", data=tmp_path, MONGARS_DATABASE__URL=away)
    assert told.returncode == 1
    assert told.stderr == "mongars: The database does not answer.\n"
