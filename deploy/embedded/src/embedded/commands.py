"""``up``, ``down``, ``logs``, ``demo``, ``migrate``."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from typing import Annotated, Any, Final, cast

import typer
from rich.console import Console as Terminal

from determinism import SystemClock, SystemIds
from embedded.console import Console
from embedded.demo import DemoFailed, run_demo
from embedded.state import State, read_json
from embedded.supervisor import Endpoints, Supervisor, run_supervisor, start_of

app = typer.Typer(no_args_is_help=True, add_completion=False)

READY_LIMIT_S: Final = 240.0
STOP_LIMIT_S: Final = 60.0
POLL_S: Final = 0.05
CLOCK: Final = SystemClock()

Replicas = Annotated[int, typer.Option(min=1, max=8, help="Of each service")]


@app.command()
def up(
    *,
    detach: Annotated[bool, typer.Option(help="Return once all are ready")] = False,
    demo: Annotated[bool, typer.Option(help="Run the demo task first")] = True,
    replicas: Replicas = 1,
) -> None:
    """Start NATS, the sandbox vendor and every service, then run a first task."""
    state = State()
    state.make()
    if running(state) is not None:
        known = read_json(state.endpoints) or {}
        where = known.get("gateway", "still starting")
        typer.echo(f"already up: {where}; stop it with ./just down", err=True)
        raise typer.Exit(1)
    state.endpoints.unlink(missing_ok=True)
    if detach:
        _detach(state, replicas)
        if demo:
            _demo(_endpoints(state))
        return
    terminal = Terminal()

    async def on_ready(endpoints: Endpoints) -> None:
        if demo:
            await run_demo(endpoints, terminal)

    console = Console(state.logs, is_quiet=False, is_colourful=terminal.is_terminal)
    _run(state, console, replicas, on_ready)


@app.command(hidden=True)
def supervise(replicas: Replicas = 1) -> None:
    """Run in the background: what ``up --detach`` starts."""
    state = State()

    async def on_ready(_endpoints: Endpoints) -> None:
        return

    console = Console(state.logs, is_quiet=True, is_colourful=False)
    _run(state, console, replicas, on_ready)


@app.command()
def down(
    *,
    wipe: Annotated[bool, typer.Option(help="Delete .state/ as well")] = False,
) -> None:
    """Stop what ``up`` started, and nothing else."""
    state = State()
    pid = running(state)
    if pid is None:
        typer.echo("not running")
    else:
        os.kill(pid, signal.SIGTERM)
        _await_gone(pid)
        typer.echo("stopped")
    if wipe:
        shutil.rmtree(state.folder, ignore_errors=True)


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="One process only")] = None,
    lines: Annotated[int, typer.Option("-n", min=0)] = 20,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
) -> None:
    """Show the latest lines of the logs."""
    paths = sorted(State().logs.glob(f"{name or '*'}.log"))
    if not paths:
        typer.echo("no logs: start with ./just up", err=True)
        raise typer.Exit(1)
    options = ["-f"] if follow else []
    command = ["tail", "-n", str(lines), *options, *map(str, paths)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def demo() -> None:
    """Run the demo task on the running platform."""
    _demo(_endpoints(State()))


def running(state: State) -> int | None:
    """Return the supervisor's pid, if the one that was noted still runs."""
    noted = read_json(state.supervisor)
    if noted is None:
        return None
    pid: int = noted["pid"]
    # Pids are used again: only one with the same start is ours.
    started = start_of(pid)
    return pid if started is not None and started == noted["started"] else None


def _run(state: State, console: Console, replicas: int, on_ready: Any) -> None:
    supervisor = Supervisor(state, console, SystemClock(), SystemIds())
    try:
        run_supervisor(supervisor, replicas, on_ready, state)
    except* RuntimeError as failures:
        for failure in leaves(failures):
            typer.echo(f"up: {failure}", err=True)
        raise typer.Exit(1) from None
    finally:
        console.close()


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors that a group holds, however deep; an error is its own."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    # isinstance cannot tell of what the group is.
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for each in group.exceptions for leaf in leaves(each)]


def _detach(state: State, replicas: int) -> None:
    log = state.logs / "supervisor.log"
    arguments = [sys.executable, "-m", "embedded", "supervise"]
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*arguments, "--replicas", str(replicas)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    limit = CLOCK.monotonic() + READY_LIMIT_S
    while read_json(state.endpoints) is None:
        if child.poll() is not None or CLOCK.monotonic() > limit:
            child.terminate()
            tail = "\n".join(log.read_text().splitlines()[-20:])
            typer.echo(f"not ready; {log} ends:\n{tail}", err=True)
            raise typer.Exit(1)
        _pause()
    typer.echo(f"ready: {_endpoints(state)['gateway']}")


def _endpoints(state: State) -> Endpoints:
    found = read_json(state.endpoints)
    if found is None:
        typer.echo("not running: start with ./just up", err=True)
        raise typer.Exit(1)
    return found


def _demo(endpoints: Endpoints) -> None:
    try:
        asyncio.run(run_demo(endpoints, Terminal()))
    except DemoFailed as failure:
        typer.echo(f"the demo task failed: {failure}", err=True)
        raise typer.Exit(1) from None


def _await_gone(pid: int) -> None:
    limit = CLOCK.monotonic() + STOP_LIMIT_S
    started = start_of(pid)
    while started is not None and start_of(pid) == started:
        if CLOCK.monotonic() > limit:
            typer.echo(f"process {pid} does not stop; see .state/logs", err=True)
            raise typer.Exit(1)
        _pause()


def _pause() -> None:
    asyncio.run(CLOCK.sleep(POLL_S))
