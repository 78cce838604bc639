"""The composition root: names every adapter, opens, wires, closes."""

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from fastapi import FastAPI

import telemetry
from contracts.subjects import Service
from determinism import Clock, IdSource, SystemClock, SystemIds
from gateway.adapters.nats import hash_password
from gateway.adapters.sql import SqlStore
from gateway.adapters.tables import SHARED
from gateway.entrypoints.doors import Bounds
from gateway.entrypoints.http import Limits, checks, create_app
from gateway.entrypoints.subscribers import subscriptions
from gateway.handlers.tenants import seed_admin
from gateway.ports import Deps
from gateway.settings import Settings
from messaging.burial import StoreSink
from messaging.bus import Bus
from messaging.housekeeping import dispatcher, housekeeping
from messaging.relay import Relay
from messaging.runner import connect_bus, serve
from messaging.subscriptions import Runnable
from persistence.database import Database, open_database
from persistence.delivery import DeliveryStore
from telemetry.face import HttpServer


@dataclass(frozen=True)
class Composed:
    """A wired service."""

    runnable: Runnable
    deps: Deps
    app: FastAPI


def compose(
    *, settings: Settings, database: Database, bus: Bus, clock: Clock, ids: IdSource
) -> Composed:
    """Wire the service onto these ports."""
    delivery = DeliveryStore(database, SHARED, clock=clock, owner=bus.instance)
    relay = Relay(bus, delivery, clock)
    deps = Deps(
        store=SqlStore(database, clock, relay.wake, telemetry.carrier),
        peers=bus,
        clock=clock,
        ids=ids,
        hash_password=hash_password,
        nats_url=settings.nats_url,
        peer_timeout_s=settings.peer_timeout_s,
    )
    own = subscriptions(deps)
    keeping = housekeeping(Service.GATEWAY, delivery, dispatcher(own))
    app = create_app(deps, limits_of(settings))
    runnable = Runnable(
        Service.GATEWAY,
        (*own, *keeping),
        loops=(relay.run,),
        sink=StoreSink(Service.GATEWAY, delivery, bus, clock),
    )
    return Composed(runnable, deps, app)


def limits_of(settings: Settings) -> Limits:
    """Return what callers may send and hold at once."""
    return Limits(
        feeds_max=settings.feeds_max,
        body_bytes_max=settings.body_bytes_max,
        ai_body_bytes_max=settings.ai_body_bytes_max,
        completions_max=settings.completions_max,
        doors=Bounds(settings.completion_s, settings.tools_max),
    )


async def run(settings: Settings) -> None:
    """Open the real adapters and serve until told to stop."""
    clock, ids = SystemClock(), SystemIds()
    database = await open_database(
        settings.database_url, migrations=settings.migrations, clock=clock
    )
    try:
        bus = connect_bus(Service.GATEWAY, settings, clock=clock, ids=ids)
        composed = compose(
            settings=settings, database=database, bus=bus, clock=clock, ids=ids
        )
        if settings.admin_key is not None:
            await seed_admin(settings.admin_key.get_secret_value(), composed.deps)
        runnable = replace(
            composed.runnable,
            loops=(
                *composed.runnable.loops,
                partial(serve_api, composed.app, settings),
            ),
        )
        await serve(runnable, bus=bus, checks=checks(database), settings=settings)
    finally:
        await database.close()


async def serve_api(app: FastAPI, settings: Settings) -> None:
    """
    Serve the API until cancelled, which lets requests under way end.

    A loop of the runnable: it ends before the bus does, so that a request which came
    in before the end still reaches the other services.
    """
    async with HttpServer(
        app,
        settings.api_host,
        settings.api_port,
        connections_max=settings.connections_max,
    ):
        await asyncio.Event().wait()
