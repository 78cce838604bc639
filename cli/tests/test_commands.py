"""The commands against a real HTTP server that answers as the gateway does."""

import json
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.app import app

TASK = {
    "task_id": "task_1",
    "tenant": "acme",
    "status": "completed",
    "employee": "clerk",
    "goal": "Check [/] it",
    "created_at": "2026-11-23T12:00:00Z",
    "turns": 2,
    "tool_calls": 1,
    "attempts": 2,
    "usage": {"input_tokens": 5, "output_tokens": 7},
    "output": {"ok": True},
    "cost": {"usd": "0.0000015", "provisional": False},
}
TURN = {
    "turn": 1,
    "text": "I read [/nonsense]",
    "tool_calls": [{"name": "read[/]", "arguments": "{}", "result": "[x]"}],
}
PROBLEM = {"code": "not-found", "detail": "no task [/x] here", "status": 404}
LETTER = {
    "id": "dead_1",
    "subject": "events.acme.[/]",
    "reason": "invalid",
    "detail": "['a'] is no [/type]",
    "created_at": "2026-11-23T12:00:00Z",
}


LACKING: dict[str, object] = {
    "name": "azure",
    "protocol": "openai",
    "usable": False,
    "key": "none",
    "why_not": "its address is not set here: [AZURE]",
    "models": [],
}
VENDORS: dict[str, object] = {
    "instance": "broker_1",
    "vendors": [
        LACKING,
        {
            "name": "openai",
            "protocol": "openai",
            "usable": True,
            "key": "own",
            "models": [
                {
                    "name": "gpt-6",
                    "capabilities": ["text"],
                    "breaker": "open",
                    "first_token_s": 0.4242,
                },
                {"name": "gpt-5"},
            ],
        },
    ],
}


@dataclass
class Gateway:
    """What the server answers, by method and path, and what it was sent."""

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(
        default_factory=dict[str, tuple[int, bytes]]
    )
    seen: list[tuple[str, dict[str, str], bytes]] = field(
        default_factory=list[tuple[str, dict[str, str], bytes]]
    )

    def answer(self, what: str, body: object, status: int = 200) -> None:
        """Answer ``GET /path`` with this JSON, or these bytes."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[what] = (status, text)


@pytest.fixture
def gateway() -> Generator[Gateway]:
    """Serve scripted answers on a free port."""
    script = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            sent = self.rfile.read(length)
            script.seen.append((self.path, dict(self.headers.items()), sent))
            what = f"{self.command} {self.path.partition('?')[0]}"
            status, body = script.answers.get(what, (404, json.dumps(PROBLEM).encode()))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 -- the base class's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield script
        server.shutdown()
        thread.join()


def dectl(gateway: Gateway, *arguments: str, **more: str) -> Result:
    """Run a command against the server."""
    environment = {"DE_URL": gateway.url, "DE_API_KEY": "de_k_s", **more}
    return CliRunner(env=environment).invoke(app, list(arguments))


def sse(*events: tuple[str, object]) -> bytes:
    """Return a feed's bytes."""
    return "".join(
        f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events
    ).encode()


def test_a_task_is_run_and_followed_to_its_end(
    gateway: Gateway, tmp_path: Path
) -> None:
    """What is written to the terminal is what happened, brackets and all."""
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear customer")
    gateway.answer("POST /v1/tasks", TASK, 202)
    gateway.answer("GET /v1/tasks/task_1", TASK)
    events = sse(("turn.finished", {"seq": 1, "data": {"turn": TURN}}), ("end", {}))
    gateway.answer("GET /v1/tasks/task_1/events", events)
    run = ("task", "run", "clerk", "Check it", "--file", str(letter), "--key", "k")
    result = dectl(gateway, *run)
    assert result.exit_code == 0, result.output
    assert "I read [/nonsense]" in result.output
    assert "0.0000015" in result.output
    _, headers, sent = gateway.seen[0]
    assert headers["authorization"] == "Bearer de_k_s"
    assert headers["idempotency-key"] == "k"
    assert json.loads(sent)["files"] == [
        {"name": "letter.txt", "content": "Dear customer"}
    ]


def test_a_task_that_failed_fails_the_command(gateway: Gateway) -> None:
    """Scripts see it by the exit code; JSON stays JSON."""
    gateway.answer("POST /v1/tasks", TASK, 202)
    gateway.answer("GET /v1/tasks/task_1", TASK | {"status": "failed"})
    result = dectl(gateway, "task", "run", "clerk", "Check it", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["status"] == "failed"


@pytest.mark.parametrize(
    ("feed", "word"),
    [
        (b"", "broke off"),
        (sse(("step.started", {"seq": 1})), "broke off"),
        (sse(("error", {"detail": "orchestrator [/gone]"})), "[/gone]"),
    ],
    ids=["nothing", "cut", "error"],
)
def test_a_cut_feed_never_looks_ended(gateway: Gateway, feed: bytes, word: str) -> None:
    """Whoever watched a feed to its end knows that it was the end."""
    gateway.answer("GET /v1/tasks/task_1/events", feed)
    result = dectl(gateway, "task", "watch", "task_1")
    assert result.exit_code == 1
    assert word in result.stderr


BUDGET = {
    "budget": {
        "scope": {"kind": "user", "id": "[/] ada"},
        "period": "day",
        "limit_usd": "5",
    },
    "limit_pico_usd": 5 * 10**12,
    "spent_pico_usd": 10**12,
    "held_pico_usd": 5 * 10**11,
    "free_pico_usd": 35 * 10**11,
}


@pytest.mark.parametrize(
    ("arguments", "path", "page", "word"),
    [
        (("task", "list"), "/v1/tasks", {"tasks": [TASK]}, "task_1"),
        (("task", "get", "task_1"), "/v1/tasks/task_1", TASK, "Check [/] it"),
        (
            ("deadletter", "list", "orchestrator"),
            "/v1/deadletters/orchestrator",
            {"dead_letters": [LETTER]},
            "dead_1",
        ),
        (
            ("employee", "list"),
            "/v1/employees",
            {"employees": [{"version": 3, "employee": {"name": "a", "role": "[/]"}}]},
            "[/]",
        ),
        (("ledger",), "/v1/ledger", {"lines": []}, "pico-USD"),
        (("trigger", "list"), "/v1/triggers", {"triggers": []}, "trigger"),
        (("budget", "list"), "/v1/budgets", {"budgets": [BUDGET]}, "3.500000"),
    ],
)
def test_lists_are_shown_to_people_and_programs(
    gateway: Gateway, arguments: tuple[str, ...], path: str, page: object, word: str
) -> None:
    """A table for one, the answer as it came for the other."""
    gateway.answer(f"GET {path}", page)
    shown = dectl(gateway, *arguments, COLUMNS="200")
    assert shown.exit_code == 0, shown.output
    assert word in shown.output
    told = dectl(gateway, *arguments, "--json")
    assert json.loads(told.stdout) == page


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("task", "get", "task_1"), "not-found: no task [/x] here"),
        (("task", "run", "a", "b", "--input", "{"), "is not JSON"),
        (("task", "run", "a", "b", "--file", "/nowhere"), "cannot read"),
        (("deadletter", "replay", "gateway", "d", "--body", "/nowhere"), "cannot read"),
        (("event", "publish", "a.b", "--data", "{}"), "no NATS credentials"),
        (("health",), "no faces known"),
        (("trace", "task_1"), "no span files"),
    ],
)
def test_what_goes_wrong_is_one_line(
    gateway: Gateway, arguments: tuple[str, ...], word: str
) -> None:
    """The reason on stderr, code 1, no traceback."""
    result = dectl(gateway, *arguments)
    assert result.exit_code == 1
    assert word in " ".join(result.stderr.split())
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_nothing_running_says_how_to_start(tmp_path: Path) -> None:
    """Without a platform and without its address the command names both ways."""
    environment = {"DE_STATE_DIR": str(tmp_path), "DE_URL": "", "DE_API_KEY": ""}
    result = CliRunner(env=environment).invoke(app, ["task", "list"])
    assert result.exit_code == 1
    assert "./just up" in result.stderr


def test_a_platform_that_does_not_answer_is_named(gateway: Gateway) -> None:
    """The address is in the error, and what to do."""
    result = dectl(gateway, "task", "list", DE_URL="http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1 does not answer" in result.stderr


def test_documents_are_sent_as_they_are(gateway: Gateway, tmp_path: Path) -> None:
    """The gateway reads the YAML; a dry run says so."""
    path = tmp_path / "clerk.yaml"
    path.write_text("kind: employee\n")
    version = {"version": 1, "employee": {"name": "clerk"}}
    gateway.answer("POST /v1/employees", version)
    result = dectl(gateway, "employee", "apply", str(path), "--dry-run")
    assert result.exit_code == 0, result.output
    asked, headers, sent = gateway.seen[0]
    assert sent == b"kind: employee\n"
    assert headers["content-type"] == "application/yaml"
    assert asked == "/v1/employees?dry_run=true"


def test_health_is_the_worst_of_all(gateway: Gateway, tmp_path: Path) -> None:
    """One service that is not ready fails the command, and is told by name."""
    bad = {"status": "not-ready", "checks": {"nats": {"status": "failed"}}}
    gateway.answer("GET /a/ready", {"status": "ready", "checks": {}})
    gateway.answer("GET /b/ready", bad, 503)
    endpoints = {
        "gateway": gateway.url,
        "api_key": "k",
        "metrics": {name: f"{gateway.url}/{name}/metrics" for name in ("a", "b")},
    }
    (tmp_path / "endpoints.json").write_text(json.dumps(endpoints))
    environment = {"DE_STATE_DIR": str(tmp_path), "DE_URL": "", "DE_API_KEY": ""}
    result = CliRunner(env=environment).invoke(app, ["health", "--json"])
    assert result.exit_code == 1
    found = {name: each["status"] for name, each in json.loads(result.stdout).items()}
    assert found == {"a": "ready", "b": "not-ready"}


def checked(vendor: str, reach: str, **more: object) -> dict[str, object]:
    """Give what the gateway answers to a check."""
    return {"vendor": vendor, "reach": reach, "detail": "told [/x]", **more}


def test_vendors_are_listed_with_what_they_lack(gateway: Gateway) -> None:
    """Usable or why not, breaker and latency of each model, and whose these are."""
    gateway.answer("GET /v1/vendors", VENDORS)
    shown = dectl(gateway, "vendor", "list", COLUMNS="160").stdout
    # A narrow terminal folds the cell.
    assert "no: its address is not set here:" in shown
    assert "[AZURE]" in shown
    (row,) = (each for each in shown.splitlines() if "gpt-6" in each)
    assert row.split() == ["openai", "own", "gpt-6", "open", "0.42", "s", "text"]
    assert "broker_1" in shown
    assert json.loads(dectl(gateway, "vendor", "list", "--json").stdout) == VENDORS


@pytest.mark.parametrize(
    ("reach", "code"),
    [
        ("reachable", 0),
        ("unproven", 0),
        ("unusable", 1),
        ("key-refused", 1),
        ("rate-limited", 1),
        ("failing", 1),
        ("unreachable", 1),
    ],
)
def test_a_check_ends_with_what_it_found(
    gateway: Gateway, reach: str, code: int
) -> None:
    """0 when every vendor is well, 1 when one is not; only usable ones are asked."""
    found = checked("openai", reach, http_status=200, took_s=0.5)
    gateway.answer("GET /v1/vendors", VENDORS)
    gateway.answer("POST /v1/vendors/openai/check", found)
    result = dectl(gateway, "vendor", "check", COLUMNS="120")
    assert result.exit_code == code
    row = result.stdout.splitlines()[-1]
    assert row.split() == ["openai", reach, "200", "0.50", "s", "told", "[/x]"]
    asked = dectl(gateway, "vendor", "check", "openai", "--json")
    assert json.loads(asked.stdout) == {"checks": [found]}
    assert asked.exit_code == code


def test_a_vendor_that_is_not_usable_can_be_asked_for(gateway: Gateway) -> None:
    """By its name it is checked too, and fails the command."""
    gateway.answer("GET /v1/vendors", VENDORS)
    gateway.answer("POST /v1/vendors/azure/check", checked("azure", "unusable"))
    result = dectl(gateway, "vendor", "check", "azure", COLUMNS="120")
    assert result.exit_code == 1
    assert "unusable" in result.stdout


def test_a_name_that_is_none_says_which_are(gateway: Gateway) -> None:
    """Nothing is asked, and the error lists the vendors."""
    gateway.answer("GET /v1/vendors", VENDORS)
    result = dectl(gateway, "vendor", "check", "opnai")
    assert result.exit_code == 1
    assert "use one of azure, openai" in result.stderr
    gateway.answer("GET /v1/vendors", {"vendors": [LACKING]})
    result = dectl(gateway, "vendor", "check")
    assert result.exit_code == 1
    assert "no vendor is usable here" in result.stderr
