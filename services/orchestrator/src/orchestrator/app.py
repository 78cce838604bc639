"""The composition root: names every adapter, opens, wires, closes."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import telemetry
from contracts.subjects import Service
from determinism import Clock, IdSource, SystemClock, SystemIds
from messaging.burial import StoreSink
from messaging.bus import Bus
from messaging.housekeeping import dispatcher, housekeeping
from messaging.relay import Relay
from messaging.runner import connect_bus, serve
from messaging.subscriptions import Runnable
from orchestrator.adapters.nats import BusBell
from orchestrator.adapters.sql import SqlStore
from orchestrator.adapters.tables import SHARED
from orchestrator.entrypoints.deadlines import forget_old, watch_deadlines
from orchestrator.entrypoints.http import checks
from orchestrator.entrypoints.subscribers import subscriptions
from orchestrator.ports import Deps
from orchestrator.settings import Settings
from persistence.database import Database, open_database
from persistence.delivery import DeliveryStore


@dataclass(frozen=True)
class Composed:
    """A wired service."""

    runnable: Runnable
    deps: Deps


def compose(
    *, settings: Settings, database: Database, bus: Bus, clock: Clock, ids: IdSource
) -> Composed:
    """Wire the service onto these ports."""
    del ids  # every id here is derived from the task's own
    delivery = DeliveryStore(database, SHARED, clock=clock, owner=bus.instance)
    relay = Relay(bus, delivery, clock)
    deps = Deps(
        store=SqlStore(database, clock, relay.wake, telemetry.carrier),
        bell=BusBell(bus),
        clock=clock,
        step_deadline_s=settings.step_deadline_s,
        keep=timedelta(days=settings.keep_days),
    )
    own = subscriptions(deps)
    keeping = housekeeping(Service.ORCHESTRATOR, delivery, dispatcher(own))
    deadlines = partial(watch_deadlines, deps, settings.deadline_poll_s)
    pruning = partial(forget_old, deps, settings.prune_s)
    loops = (relay.run, deadlines, pruning)
    sink = StoreSink(Service.ORCHESTRATOR, delivery, bus, clock)
    runnable = Runnable(Service.ORCHESTRATOR, (*own, *keeping), loops, sink=sink)
    return Composed(runnable, deps)


async def run(settings: Settings) -> None:
    """Open the real adapters and serve until told to stop."""
    clock, ids = SystemClock(), SystemIds()
    database = await open_database(
        settings.database_url, migrations=settings.migrations, clock=clock
    )
    try:
        bus = connect_bus(Service.ORCHESTRATOR, settings, clock=clock, ids=ids)
        composed = compose(
            settings=settings, database=database, bus=bus, clock=clock, ids=ids
        )
        await serve(
            composed.runnable, bus=bus, checks=checks(database), settings=settings
        )
    finally:
        await database.close()
