"""The file of rate limits: mistakes are named, changes are taken."""

from pathlib import Path

import pytest
from test_domain_quota import request

from ai_broker.adapters.rate_file import RateFile, read_rates

GOOD = """\
rules:
  - {scope: api-key, requests_per_minute: 60, concurrent: 8}
  - scope: tenant
    tenant: acme
    tokens_per_minute: 2000000
"""


def limits(file: RateFile) -> list[tuple[str, int]]:
    """Return what a question of acme's is held to."""
    found = file.now().bounds(request(), lambda: 1)
    return [(each.policy, each.limit) for each in found]


def write(path: Path, text: str) -> None:
    """Write another version, in a new file as editors and Kubernetes do."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules:\n  - {scope: user", r"rates\.yaml: no YAML: (?s:.*)line 2"),
        (
            "rules:\n- {scope: user, concurrent: 0}",
            r"line 2: rules\.0\.concurrent: .*1",
        ),
        (GOOD.replace("tenant: acme", "tenant: 7"), r"line 4: rules\.1\.tenant: "),
        (
            GOOD.replace("tokens_", "token_"),
            r"line 5: rules\.1\.token_per_minute: Extra",
        ),
        (
            GOOD.replace("scope: tenant", "scope: x"),
            r"line 3: rules\.1\.scope: .*'team'",
        ),
        (
            GOOD.replace("    tokens_per_minute: 2000000\n", ""),
            r"line 3: rules\.1: needs",
        ),
        ("rule: []", r"line 1: rule: Extra"),
        ("- scope: user", r"line 1: the file: "),
        ("rules:\n" + "- {scope: user, concurrent: 1}\n" * 2, "2 rules are for user"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_field(
    tmp_path: Path, text: str, said: str
) -> None:
    """And stops the start."""
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        RateFile(path)


def test_an_empty_file_limits_nothing() -> None:
    """Neither does one that has only comments."""
    for content in (b"", b"# none yet\n", b"rules: []\n"):
        assert read_rates(content, "rates.yaml").bounds(request(), lambda: 1) == ()


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """A wrong path must not mean: no limits."""
    with pytest.raises(ValueError, match="cannot be read"):
        RateFile(tmp_path / "rates.yaml")


async def test_a_change_is_taken_and_a_mistake_is_not(tmp_path: Path) -> None:
    """The last good version goes on until there is a better one."""
    path = tmp_path / "rates.yaml"
    write(path, GOOD)
    file = RateFile(path)
    first = [
        ("api-key-requests", 60),
        ("api-key-concurrent", 8),
        ("tenant-tokens", 2_000_000),
    ]
    assert limits(file) == first
    write(path, GOOD.replace("60", "sixty"))
    await file.refresh()
    assert limits(file) == first
    path.unlink()
    await file.refresh()
    assert limits(file) == first
    write(path, GOOD.replace("60", "61"))
    await file.refresh()
    assert limits(file) == [("api-key-requests", 61), *first[1:]]
