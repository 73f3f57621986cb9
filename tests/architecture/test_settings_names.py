"""The names of settings are ours to check; other programs' variables are left alone."""

from pathlib import Path

import pytest

from mongars.errors import NotConfigured
from mongars.settings import Settings, load, names


def test_an_unknown_setting_is_refused_with_the_nearest_right_name(tmp_path: Path) -> None:
    with pytest.raises(
        NotConfigured, match=r"MONGARS_LLM__MODLE.*did you mean MONGARS_LLM__MODEL\?"
    ):
        load(tmp_path, {"MONGARS_LLM__MODLE": "x"})


def test_names_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    environment = {
        "MONGARS_PORT": "tcp://10.0.0.1:8000",
        "MONGARS_TEST_DATABASE_URL": "postgresql://x/y",
        "MONGARS_DATA_DIR": "/somewhere",
        "OTHER__NAME": "x",
    }
    assert load(tmp_path, environment) == Settings()


def test_every_setting_has_a_docstring_and_every_organ_a_sentence() -> None:
    for organ, field in Settings.model_fields.items():
        section = field.annotation
        assert section is not None
        assert section.__doc__, organ
        for name, one in section.model_fields.items():
            assert one.description, f"{organ}.{name} says nothing"


def test_the_fixed_names_are_there() -> None:
    fixed = {
        "MONGARS_API__HOST",
        "MONGARS_API__PORT",
        "MONGARS_API__ROOT_PATH",
        "MONGARS_API__ALLOWED_HOSTS",
        "MONGARS_API__TRUSTED_PROXIES",
        "MONGARS_DATABASE__URL",
        "MONGARS_REDIS__URL",
        "MONGARS_LLM__BACKEND",
        "MONGARS_LLM__URL",
        "MONGARS_LLM__MODEL",
        "MONGARS_LLM__API_KEY",
        "MONGARS_NEURONS__BACKEND",
        "MONGARS_NEURONS__URL",
        "MONGARS_NEURONS__MODEL",
        "MONGARS_NEURONS__API_KEY",
        "MONGARS_AUTH__OPEN_REGISTRATION",
        "MONGARS_AUTH__ALGORITHM",
        "MONGARS_LIMITS__MESSAGES_PER_MINUTE",
        "MONGARS_LIMITS__TURNS_PER_PERSON",
        "MONGARS_LIMITS__BODY_BYTES",
        "MONGARS_LIMITS__MESSAGE_CHARS",
    }
    assert fixed - set(names()) == set()
