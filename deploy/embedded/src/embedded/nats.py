"""The embedded NATS server's configuration."""

from collections.abc import Mapping
from pathlib import Path

from embedded.stack import Plan
from embedded.state import PRIVATE, State
from nats_bootstrap.render import render, tenants_in

SYNC_INTERVAL = "1s"


def write_configuration(plan: Plan, secrets: Mapping[str, str], state: State) -> None:
    """
    Write ``nats.conf`` and the users that it includes; tenants keep theirs.

    Only events of other systems depend on the sync interval: whatever a service
    accepted is in its own store.
    """
    users_file = state.nats / "users.conf"
    tenants = tenants_in(users_file.read_text()) if users_file.exists() else ()
    config, users = render(
        secrets,
        tenants,
        port=plan.nats_port,
        store_dir=state.nats / "jetstream",
        sync_interval=SYNC_INTERVAL,
        include_path=users_file.name,
        monitor_port=plan.monitor_port,
    )
    _write(state.nats / "nats.conf", config)
    _write(users_file, users)


def _write(path: Path, text: str) -> None:
    path.touch(mode=PRIVATE)
    path.write_text(text)
