"""What is generated is what the code says."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = [
    ".env.example",
    "docs/settings.md",
    "docs/cli.md",
    "docs/openapi.json",
    "docs/api.md",
    "docs/problems.md",
]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """`docs/generate.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_document_is_what_the_code_says(generate: ModuleType, name: str) -> None:
    written = (ROOT / name).read_text()
    assert written == generate.DOCUMENTS[name](), f"{name} is out of date: make generate"


def test_every_setting_is_in_the_document_and_in_the_example(generate: ModuleType) -> None:
    from mongars.settings import names

    example = generate.env_example()
    document = generate.settings_md()
    for name in names():
        assert f"`{name}`" in document
        assert f"#{name}=" in example


def test_every_problem_is_explained(generate: ModuleType) -> None:
    unexplained = set(generate.slugs()) - set(generate.WORDS)
    assert unexplained == set(), "a sentence for each goes into WORDS of docs/generate.py"


def test_the_description_of_the_api_names_each_operation_once() -> None:
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())
    operations = [
        call["operationId"] for calls in described["paths"].values() for call in calls.values()
    ]
    assert len(operations) == len(set(operations))
