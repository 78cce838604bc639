"""What is published about the API and the subjects is what the code does."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DOCUMENTS = ("openapi.json", "asyncapi.json")


def dangling(document: dict[str, Any]) -> list[str]:
    """Return the references inside a document that lead nowhere."""
    places = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    return sorted({place for place in places if not leads(document, place)})


def leads(document: dict[str, Any], place: str) -> bool:
    """Say whether a JSON pointer without its first slash finds something."""
    found: Any = document
    try:
        for part in place.split("/"):
            found = found[part]
    except (KeyError, TypeError):
        return False
    return True


def test_documents_say_what_the_code_does(root: Path) -> None:
    """Neither document drifts: `./just docs` would change nothing."""
    answer = subprocess.run(
        [sys.executable, "tools/docs.py", "--check"],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", DOCUMENTS)
def test_references_resolve(root: Path, name: str) -> None:
    """A generator of clients finds every schema that is named."""
    assert dangling(json.loads((root / "docs" / name).read_text())) == []


def test_a_dangling_reference_is_seen() -> None:
    """What is there is told from what is not."""
    document = {"a": {"b": 1}, "c": [{"$ref": "#/a/b"}, {"$ref": "#/a/x"}]}
    assert dangling(document) == ["a/x"]
