"""Secrets are made once and kept private; the console keeps what it shows."""

import json
import stat
from pathlib import Path

import pytest

from determinism import SystemIds
from embedded.commands import leaves, running
from embedded.console import Console
from embedded.nats import write_configuration
from embedded.ports import Ports
from embedded.secrets import ADMIN_KEY, load_secrets
from embedded.stack import commands, make_plan
from embedded.state import State, read_json, write_json
from embedded.supervisor import NotReady, start_of


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Return an empty state folder."""
    found = State(tmp_path / "a state")
    found.make()
    return found


def test_secrets_are_kept(state: State) -> None:
    """A second start has the same passwords, and only their owner may read them."""
    first = load_secrets(state, SystemIds())
    again = load_secrets(state, SystemIds())
    assert again == first
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE(state.secrets.stat().st_mode) == 0o600


def test_a_secret_that_is_new_leaves_the_old(state: State) -> None:
    """A later version that needs one more user changes no other's password."""
    first = dict(load_secrets(state, SystemIds()))
    known = {name: text for name, text in first.items() if name != ADMIN_KEY}
    write_json(state.secrets, known)
    again = load_secrets(state, SystemIds())
    assert {name: again[name] for name in known} == known
    assert again[ADMIN_KEY].startswith("de_admin_")


def test_no_secret_is_on_a_command_line(state: State, tmp_path: Path) -> None:
    """Whoever lists processes sees no password; NATS knows hashes alone."""
    secrets = load_secrets(state, SystemIds())
    with Ports(tmp_path / "ports") as held:
        plan = make_plan(1, held)
    arguments = [a for each in commands(plan, secrets, state) for a in each.arguments]
    write_configuration(plan, secrets, state)
    users = (state.nats / "users.conf").read_text()
    assert not [text for text in secrets.values() if any(text in a for a in arguments)]
    assert stat.S_IMODE((state.nats / "users.conf").stat().st_mode) == 0o600
    assert secrets[ADMIN_KEY] not in users


def test_readers_see_all_of_a_file_or_none(state: State) -> None:
    """What was there is replaced in one step; nothing half written stays."""
    assert read_json(state.tenant) is None
    for number in range(3):
        write_json(state.tenant, {"number": number})
        assert read_json(state.tenant) == {"number": number}
    assert list(state.folder.glob("*.new")) == []


def test_a_pid_that_is_used_again_is_not_ours(state: State) -> None:
    """``down`` stops what was started here and nothing else."""
    pid = 1
    write_json(state.supervisor, {"pid": pid, "started": "another start"})
    assert running(state) is None
    write_json(state.supervisor, {"pid": pid, "started": start_of(pid)})
    assert running(state) == pid
    state.supervisor.unlink()
    assert running(state) is None


def test_lines_are_shown_for_people_and_kept_as_they_came(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    """Structured lines lose what repeats; plain ones and broken ones pass."""
    console = Console(state.logs, is_quiet=False, is_colourful=False)
    line = json.dumps(
        {
            "event": "task_accepted",
            "level": "info",
            "timestamp": "2026-11-23T12:34:56.123Z",
            "service": "gateway",
            "trace_id": "ab" * 16,
            "task_id": "task_1",
        }
    )
    for each in (line, "plain [text]", '{"no": "event"}', '{"cut', ""):
        console.say("gateway", each)
    console.close()
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "12:34:56 gateway         task_accepted task_id=task_1"
    assert shown[1] == "gateway         plain [text]"
    assert [text.split(maxsplit=1)[1:] for text in shown[2:]] == [
        ['{"no": "event"}'],
        ['{"cut'],
        [],
    ]
    kept = (state.logs / "gateway.log").read_text().splitlines()
    assert kept[:2] == [line, "plain [text]"]


def test_a_quiet_console_only_keeps(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the background nothing is shown; a file per process has it all."""
    console = Console(state.logs, is_quiet=True, is_colourful=True)
    console.say("a", "1")
    console.close()
    console.say("a", "2")
    console.close()
    assert capsys.readouterr().out == ""
    assert (state.logs / "a.log").read_text() == "1\n2\n"


def test_colours_are_painted_where_a_terminal_takes_them(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error is red, and one process has one colour."""
    console = Console(state.logs, is_quiet=False, is_colourful=True)
    console.say("gateway", '{"event": "boom", "level": "error"}')
    console.say("gateway", "x")
    console.close()
    first, second = capsys.readouterr().out.splitlines()
    assert "\x1b[31mboom\x1b[0m" in first
    assert first.split("gateway")[0].strip() == second.split("gateway")[0]


def test_the_errors_of_a_failed_start_are_found() -> None:
    """However deep the groups, each is told in one line."""
    errors = [NotReady("a"), NotReady("b")]
    nested = ExceptionGroup("out", [ExceptionGroup("in", errors[:1]), errors[1]])
    assert leaves(nested) == errors
