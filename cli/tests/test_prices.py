"""``dectl prices``: what is proposed is seen, approved by name, and stays on record."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from pricing.approval import APPROVALS, parse_approvals

DOCUMENT = """
version: spring
ceiling_input: "100"
ceiling_output: "500"
prices:
  - {vendor: sandbox-openai, model: sandbox-small, input: "0.30", output: "1.20",
     effective_from: 2026-11-27T00:00:00Z, source: sandbox}
  - {vendor: sandbox-openai, model: sandbox-small, input: "0.10", output: "0.50",
     effective_from: 2026-11-27T00:00:00Z, tenant: acme, source: tenant-override}
"""


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the command on a folder; return its code and what it said."""
    result = CliRunner().invoke(
        app, ["prices", *arguments, "--folder", str(folder)], env={"COLUMNS": "200"}
    )
    return result.exit_code, result.output


def propose(folder: Path, document: str = DOCUMENT) -> str:
    """Propose a document's rows; return the digest."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.yaml").write_text(document)
    code, said = run(folder, "import", "--file", str(folder / "rows.yaml"))
    assert code == 0, said
    return said.split("proposed ")[1].split()[0]


def test_a_change_is_proposed_shown_and_approved(tmp_path: Path) -> None:
    """Who let it take force, and when, is kept beside it."""
    digest = propose(tmp_path)
    code, said = run(tmp_path, "diff", digest[:12])
    assert code == 0, said
    assert "2 added, 0 changed, 0 gone" in said
    assert "0.3 / 1.2" in said
    assert not (tmp_path / APPROVALS).exists()
    code, said = run(tmp_path, "approve", digest[:12], "--by", "ada")
    assert code == 0, said
    (approval,) = parse_approvals((tmp_path / APPROVALS).read_text())
    assert (approval.digest, approval.approved_by) == (digest, "ada")
    code, said = run(tmp_path, "show", "sandbox-small")
    assert "approved by ada" in said
    assert "0.1 / 0.5" in said
    assert run(tmp_path, "approve", digest)[0] == 1


def test_the_lists_of_genai_prices_are_proposed(tmp_path: Path) -> None:
    """The sandbox's rows stay; every vendor's list comes."""
    code, said = run(tmp_path, "import")
    assert code == 0, said
    digest = said.split("proposed ")[1].split()[0]
    assert run(tmp_path, "approve", digest, "--by", "ada")[0] == 0
    code, said = run(tmp_path, "show", "claude-sonnet-4-5")
    # A narrow terminal folds the cells.
    assert "anthropic/claude-sonnet-4" in said
    assert "3 / 15" in said
    assert "sandbox-openai" in run(tmp_path, "show", "sandbox-small")[1]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("prices: [", "is no price document"),
        (DOCUMENT.replace("0.30", "-1"), "not below 0"),
        (DOCUMENT.replace("0.30", "0.00000001"), "six decimals"),
    ],
)
def test_a_bad_document_is_refused(tmp_path: Path, document: str, said: str) -> None:
    """Wrong units name what they must be; nothing is proposed."""
    (tmp_path / "rows.yaml").write_text(document)
    code, told = run(tmp_path, "import", "--file", str(tmp_path / "rows.yaml"))
    assert code == 1
    assert said in " ".join(told.split())
    assert list(tmp_path.glob("*.json")) == []


def test_a_book_that_was_changed_by_hand_is_not_approved(tmp_path: Path) -> None:
    """Its name is the digest of its content."""
    digest = propose(tmp_path)
    path = tmp_path / f"{digest}.json"
    path.write_text(path.read_text().replace("300000", "300001"))
    code, said = run(tmp_path, "approve", digest)
    assert code == 1
    assert "was changed" in " ".join(said.split())
    assert run(tmp_path, "diff", "ffff")[0] == 1
