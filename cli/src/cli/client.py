"""Where the platform is, and how to ask it; errors become one line and a code."""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import httpx
import typer
from rich.console import Console
from rich.markup import escape

CHECKOUT: Final = Path(__file__).parents[3]
LIMIT_S: Final = 30.0
FIRST_ERROR: Final = 400
LAST_EVENTS: Final = frozenset({"end", "error"})

OUT: Final = Console()
ERR: Final = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for programs")]

# Answers are JSON of the API's documented shapes; commands pick fields by name.
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One platform."""

    url: str
    api_key: str
    endpoints: Json = field(default_factory=dict[str, Any])
    """``endpoints.json`` of an embedded platform; empty elsewhere."""


def find_target() -> Target:
    """Return the platform to talk to: the environment's, else the embedded one."""
    url, api_key = os.environ.get("DE_URL"), os.environ.get("DE_API_KEY")
    if url and api_key:
        return Target(url, api_key)
    state = Path(os.environ.get("DE_STATE_DIR") or CHECKOUT / ".state")
    path = state / "endpoints.json"
    try:
        endpoints: Json = json.loads(path.read_text())
    except FileNotFoundError:
        fail("nothing is running: start it with ./just up, or set DE_URL, DE_API_KEY")
    return Target(endpoints["gateway"], endpoints["api_key"], endpoints)


@contextmanager
def client(target: Target | None = None) -> Generator[httpx.Client]:
    """Open a client; a platform that does not answer ends the command."""
    found = target or find_target()
    headers = {"authorization": f"Bearer {found.api_key}"}
    try:
        with httpx.Client(
            base_url=found.url, headers=headers, timeout=LIMIT_S
        ) as opened:
            yield opened
    except httpx.TransportError as cause:
        fail(f"{found.url} does not answer ({cause}); is it up? ./just up")


def ask(
    opened: httpx.Client,
    method: str,
    path: str,
    *,
    body: object = None,
    params: Json | None = None,
    content: bytes | None = None,
    media_type: str | None = None,
) -> Json:
    """Send one request and return its JSON; a problem ends the command."""
    headers = {} if media_type is None else {"content-type": media_type}
    chosen = {key: value for key, value in (params or {}).items() if value is not None}
    answer = opened.request(
        method,
        path,
        params=chosen,
        headers=headers,
        content=content,
        json=body if content is None else None,
    )
    if answer.status_code >= FIRST_ERROR:
        fail(explain(answer))
    return answer.json() if answer.content else {}


def feed(opened: httpx.Client, path: str) -> Iterator[tuple[str, Json]]:
    """
    Yield a feed's events up to its end: name and data.

    A quiet feed says something every few seconds; silence beyond the client's limit,
    like a feed that stops without an end, ends the command.
    """
    with opened.stream("GET", path) as answer:
        if answer.status_code >= FIRST_ERROR:
            answer.read()
            fail(explain(answer))
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))
                if name in LAST_EVENTS:
                    return
    fail("the feed broke off before its end: ask again")


def explain(answer: httpx.Response) -> str:
    """Return an error answer: what is wrong, then a line for each wrong field."""
    try:
        problem: Json = answer.json()
    except ValueError:
        return f"{answer.status_code}: {answer.text[:500]}"
    code = problem.get("code", answer.status_code)
    fields = [
        f"  {error['pointer'] or '/'}: {error['detail']}"
        for error in problem.get("errors", ())
    ]
    return "\n".join([f"{code}: {problem.get('detail', problem)}", *fields])


def fail(text: str) -> NoReturn:
    """Say what went wrong and end with code 1."""
    # The text may be anything, square brackets among it.
    ERR.print("[red]error[/]", escape(text), highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def print_json(content: object) -> None:
    """Print JSON for programs: no colour, no wrapping."""
    typer.echo(json.dumps(content, ensure_ascii=False))


def read_argument(text: str) -> object:
    """Return the JSON of an argument: ``@file`` reads a file, ``-`` standard input."""
    if text == "-":
        source = typer.get_text_stream("stdin").read()
    elif text.startswith("@"):
        source = read_text(Path(text[1:]))
    else:
        source = text
    try:
        return json.loads(source)
    except ValueError as cause:
        fail(f"{text[:60]!r} is not JSON ({cause}); write @file to read a file")


def read_bytes(path: Path) -> bytes:
    """Return a file's content; a missing one ends the command."""
    try:
        return path.read_bytes()
    except OSError as cause:
        fail(f"cannot read {path}: {cause}")


def read_text(path: Path) -> str:
    """Return a text file's content; a missing or binary one ends the command."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as cause:
        fail(f"cannot read {path}: {cause}")
