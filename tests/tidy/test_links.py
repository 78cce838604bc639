"""Every link between the repository's documents leads somewhere."""

import posixpath
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

LINK: Final = re.compile(r"\[[^\]]*\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)")
CODE: Final = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
HEADING: Final = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
EXTERNAL: Final = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


def broken_links(path: str, text: str, files: dict[str, str]) -> list[str]:
    """
    Return a violation for each relative link without a target.

    Args:
        path: The document's, relative to the root, as are the keys of ``files``.
        text: The document.
        files: Every file that a link may lead to, with its text or "".
    """
    folders = {str(p) for file in files for p in Path(file).parents}
    found: list[str] = []
    for link in LINK.findall(CODE.sub("", text)):
        if EXTERNAL.match(link):
            continue
        target, _, anchor = unquote(link).partition("#")
        joined = posixpath.join(posixpath.dirname(path), target) if target else path
        where = posixpath.normpath(joined)
        if where not in files and where not in folders:
            found.append(f"{path}: {link} leads nowhere")
        elif anchor and where.endswith(".md") and anchor not in anchors(files[where]):
            found.append(f"{path}: {link} has no such heading")
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    found: set[str] = set()
    for heading in HEADING.findall(re.sub(r"(?ms)^```.*?^```", "", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = next(n for n in range(len(found) + 1) if named(slug, n) not in found)
        found.add(named(slug, number))
    return found


def named(slug: str, number: int) -> str:
    """Return the anchor of the heading's n-th repeat."""
    return f"{slug}-{number}" if number else slug


def test_links_resolve(sources: dict[str, str], paths: tuple[str, ...]) -> None:
    """No document points at a file or heading that is not there."""
    files = {path: sources.get(path, "") for path in paths}
    documents = {path: text for path, text in sources.items() if path.endswith(".md")}
    found = [
        hit
        for path, text in documents.items()
        for hit in broken_links(path, text, files)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("link", "whole"),
    [
        ("b.md", True),
        ("b.md#second-part", True),
        ("b.md#second-part-1", True),
        ("../docs", True),
        ("https://example.com/x", True),
        ("c.md", False),
        ("b.md#third-part", False),
        ("../b.md", False),
    ],
)
def test_a_broken_link_is_seen(link: str, *, whole: bool) -> None:
    """Files, folders, headings and their repeats are told from what is absent."""
    files = {
        "docs/a.md": "",
        "docs/b.md": "# One\n\n## Second part\n\n## Second part\n",
    }
    found = broken_links("docs/a.md", f"See [this]({link}).", files)
    assert (found == []) == whole


def test_code_is_no_link() -> None:
    """What looks like a link inside code is code."""
    text = "`a[0](x)`\n\n```python\nf[int](y)\n```\n"
    assert broken_links("a.md", text, {"a.md": text}) == []
