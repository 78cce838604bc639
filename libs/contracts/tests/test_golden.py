"""
The frozen contracts: every message reads and writes its golden sample.

A sample that changes is a change of the wire. An added optional field does not
change it; anything else needs a new major version and a new sample beside the
old one. ``python libs/contracts/tests/test_golden.py`` writes missing samples.
"""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

import pytest

import contracts
from contracts.message import Json, Message

GOLDEN = Path(__file__).parents[1] / "golden"

sys.path.insert(0, str(Path(__file__).parent))
from samples import SAMPLES  # noqa: E402 -- the path above makes it importable


def known(sent: Json, frozen: Json) -> Json:
    """Return what is sent, less the fields that the frozen sample does not know."""
    if isinstance(sent, dict) and isinstance(frozen, dict):
        return {k: known(v, frozen[k]) for k, v in sent.items() if k in frozen}
    if isinstance(sent, list) and isinstance(frozen, list) and len(sent) == len(frozen):
        return [known(*pair) for pair in zip(sent, frozen, strict=True)]
    return sent


def path_of(name: str) -> Path:
    """Return where a sample's golden JSON is."""
    return GOLDEN / f"{name}.v1.json"


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_writes_its_golden_sample(name: str) -> None:
    """What we send today is what the sample froze; added fields stand beside it."""
    frozen = json.loads(path_of(name).read_text())
    assert known(json.loads(SAMPLES[name].encode()), frozen) == frozen


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_reads_its_golden_sample(name: str) -> None:
    """What was sent then is understood now, to the last field."""
    model = type(SAMPLES[name])
    assert model.model_validate_json(path_of(name).read_bytes()) == SAMPLES[name]


@pytest.mark.parametrize(
    "name", [n for n in SAMPLES if n not in {"employee", "trigger"}]
)
def test_a_reader_ignores_what_it_does_not_know(name: str) -> None:
    """N reads what N+1 writes: an unknown field is no error."""
    content = json.loads(path_of(name).read_text())
    content["added_by_a_later_version"] = {"x": 1}
    model = type(SAMPLES[name])
    assert model.model_validate_json(json.dumps(content)) == SAMPLES[name]


def test_no_golden_sample_is_orphaned() -> None:
    """A sample without a contract would promise nothing."""
    assert {path.name for path in GOLDEN.glob("*.json")} == {
        path_of(name).name for name in SAMPLES
    }


def test_every_field_is_documented() -> None:
    """Readers of the schema learn each field's meaning from it."""
    bare = [
        f"{model.__name__}.{name}"
        for model in every_model()
        for name, field in model.model_fields.items()
        if not field.description and name != "kind"
    ]
    assert bare == []


def every_model() -> list[type[Message]]:
    """Return every message class of the package."""
    found: list[type[Message]] = []
    for module_info in pkgutil.iter_modules(contracts.__path__, "contracts."):
        module = importlib.import_module(module_info.name)
        found += [
            each
            for each in vars(module).values()
            if isinstance(each, type)
            and issubclass(each, Message)
            and each.__module__ == module.__name__
        ]
    return found


if __name__ == "__main__":
    for sample_name, sample in SAMPLES.items():
        if not path_of(sample_name).exists():
            content = json.loads(sample.encode())
            path_of(sample_name).write_text(json.dumps(content, indent=2) + "\n")
