"""Composition root of the bootstrap."""

from contracts.subjects import Service
from determinism import SystemClock
from messaging.runner import connect_bus, serve
from nats_bootstrap.reconcile import Outward, Reconciler
from nats_bootstrap.settings import Settings
from nats_bootstrap.users import System, UsersFile


async def run(settings: Settings) -> None:
    """Reconcile until a signal ends the process."""
    clock = SystemClock()
    bus = connect_bus(Service.BOOTSTRAP, settings, clock=clock)
    password = settings.sys_password
    system = System(
        settings.nats_url, None if password is None else password.get_secret_value()
    )
    outward = Outward(
        bus=bus,
        system=system,
        users=UsersFile(settings.include_path),
        clock=clock,
        interval_s=settings.interval_s,
    )
    try:
        await serve(
            Reconciler(outward).runnable(),
            bus=bus,
            checks={},
            settings=settings,
        )
    finally:
        await system.close()
