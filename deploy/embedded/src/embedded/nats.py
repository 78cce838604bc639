"""The embedded NATS server's configuration."""

from collections.abc import Mapping

from nats_bootstrap.render import render

from embedded.stack import Plan
from embedded.state import State

SYNC_INTERVAL = "1s"


def write_configuration(plan: Plan, secrets: Mapping[str, str], state: State) -> None:
    """
    Write ``nats.conf``; tenants already in the include file keep their users.

    Only events of other systems depend on the sync interval: whatever a service
    accepted is in its own store.
    """
    users = {
        name: password for name, password in secrets.items() if name != "admin_key"
    }
    include = state.nats / "tenants.conf"
    config, no_tenants = render(
        users,
        (),
        port=plan.nats_port,
        store_dir=state.nats / "jetstream",
        sync_interval=SYNC_INTERVAL,
        include_path=include,
        monitor_port=plan.monitor_port,
    )
    (state.nats / "nats.conf").write_text(config)
    (state.nats / "nats.conf").chmod(0o600)
    if not include.exists():
        include.write_text(no_tenants)
        include.chmod(0o600)
