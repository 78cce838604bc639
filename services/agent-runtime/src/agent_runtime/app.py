"""The composition root: names every adapter, opens, wires, closes."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from agent_runtime.adapters.nats import BrokerModel, LiveWatchers
from agent_runtime.adapters.sql import SqlStore, known_steps
from agent_runtime.adapters.tables import SHARED
from agent_runtime.entrypoints.http import checks
from agent_runtime.entrypoints.subscribers import subscriptions
from agent_runtime.handlers.crew import Crew
from agent_runtime.handlers.pruning import prune_forever
from agent_runtime.ports import Deps, Pace
from agent_runtime.settings import Settings
from contracts.subjects import Service
from determinism import Clock, IdSource, SystemClock, SystemIds
from messaging.burial import StoreSink
from messaging.bus import Bus
from messaging.housekeeping import dispatcher, housekeeping
from messaging.relay import Relay
from messaging.runner import connect_bus, serve
from messaging.subscriptions import Runnable
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
    delivery = DeliveryStore(
        database, SHARED, clock=clock, owner=bus.instance, known=known_steps
    )
    relay = Relay(bus, delivery, clock)
    crew = Crew(settings.steps_max)
    deps = Deps(
        store=SqlStore(
            database,
            clock,
            relay.wake,
            owner=bus.instance,
            lease_duration=timedelta(seconds=settings.lease_s),
        ),
        model=BrokerModel(bus),
        watchers=LiveWatchers(bus),
        seats=crew,
        clock=clock,
        ids=ids,
        pace=_pace(settings),
    )
    own = subscriptions(deps)
    keeping = housekeeping(Service.AGENT_RUNTIME, delivery, dispatcher(own))
    runnable = Runnable(
        Service.AGENT_RUNTIME,
        (*own, *keeping),
        loops=(
            relay.run,
            partial(crew.work, deps),
            partial(crew.sweep, deps),
            partial(prune_forever, deps),
        ),
        sink=StoreSink(Service.AGENT_RUNTIME, delivery, bus, clock),
    )
    return Composed(runnable, deps)


async def run(settings: Settings) -> None:
    """Open the real adapters and serve until told to stop."""
    clock, ids = SystemClock(), SystemIds()
    database = await open_database(
        settings.database_url, migrations=settings.migrations, clock=clock
    )
    try:
        bus = connect_bus(Service.AGENT_RUNTIME, settings, clock=clock, ids=ids)
        composed = compose(
            settings=settings, database=database, bus=bus, clock=clock, ids=ids
        )
        await serve(
            composed.runnable, bus=bus, checks=checks(database), settings=settings
        )
    finally:
        await database.close()


def _pace(settings: Settings) -> Pace:
    return Pace(
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
        sweep_s=settings.sweep_s,
        call_s=settings.call_s,
        cancel_s=settings.cancel_s,
        keep_s=timedelta(days=settings.keep_days).total_seconds(),
    )
