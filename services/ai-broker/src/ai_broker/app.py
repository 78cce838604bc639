"""The composition root: names every adapter, opens, wires, closes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import assert_never

import yaml

from ai_broker.adapters.answer_cache import SqlAnswerCache
from ai_broker.adapters.sql import SqlStore
from ai_broker.adapters.tables import SHARED
from ai_broker.adapters.vendors.anthropic import AnthropicVendor
from ai_broker.adapters.vendors.openai import OpenAIVendor
from ai_broker.adapters.vendors.sdk import Patience
from ai_broker.domain.catalogue import Catalogue, Endpoint, Menu, Protocol, usable
from ai_broker.domain.guard.policy import GuardBook
from ai_broker.entrypoints.http import checks
from ai_broker.entrypoints.subscribers import subscriptions
from ai_broker.handlers import Desk, prune_forever, sweep_forever
from ai_broker.ports import Deps, Limits, Vendor
from ai_broker.settings import Settings
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
    *,
    settings: Settings,
    database: Database,
    bus: Bus,
    clock: Clock,
    ids: IdSource,
    vendors: Mapping[str, Vendor] | None = None,
) -> Composed:
    """
    Wire the service onto these ports.

    Args:
        settings: The service's settings.
        database: Its store.
        bus: What it sends through.
        clock: The time.
        ids: Attempt ids and jitter.
        vendors: By name, instead of the real ones; only those are on the menu.
    """
    catalogue = read_catalogue(settings.catalogue_file)
    endpoints = usable(catalogue, settings.vendor_environment, settings.sandbox_url)
    named = open_vendors(endpoints, settings) if vendors is None else vendors
    entries = tuple(each for each in catalogue.vendors if each.name in named)
    delivery = DeliveryStore(database, SHARED, clock=clock, owner=bus.instance)
    relay = Relay(bus, delivery, clock)
    deps = Deps(
        store=SqlStore(database, relay.wake, clock),
        vendors=named,
        menu=Menu(entries, catalogue.aliases),
        clock=clock,
        ids=ids,
        instance=bus.instance,
        cache=SqlAnswerCache(database),
        limits=Limits(
            lease_s=settings.lease_s,
            heartbeat_s=settings.lease_s / 4,
            keep_s=timedelta(days=settings.keep_days).total_seconds(),
        ),
        guards=read_guards(settings.guard_file),
    )
    desk = Desk(deps)
    own = subscriptions(desk)
    keeping = housekeeping(Service.AI_BROKER, delivery, dispatcher(own))
    loops = (relay.run, partial(sweep_forever, deps), partial(prune_forever, deps))
    sink = StoreSink(Service.AI_BROKER, delivery, bus, clock)
    runnable = Runnable(Service.AI_BROKER, (*own, *keeping), loops, sink=sink)
    return Composed(runnable, deps)


def read_catalogue(path: Path) -> Catalogue:
    """Read the catalogue; a mistake in it stops the start."""
    return Catalogue.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def read_guards(path: Path | None) -> GuardBook:
    """Read which tenants are guarded; a mistake in it stops the start."""
    if path is None:
        return GuardBook()
    return GuardBook.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def open_vendors(
    endpoints: tuple[Endpoint, ...], settings: Settings
) -> dict[str, Vendor]:
    """Return a client of each endpoint; the SDKs are not imported yet."""
    patience = Patience(settings.vendor_connect_s, settings.vendor_idle_s)
    return {each.entry.name: _vendor(each, patience) for each in endpoints}


def _vendor(endpoint: Endpoint, patience: Patience) -> Vendor:
    match endpoint.entry.protocol:
        case Protocol.OPENAI:
            return OpenAIVendor(endpoint, patience)
        case Protocol.ANTHROPIC:
            return AnthropicVendor(endpoint, patience)
        case _:
            assert_never(endpoint.entry.protocol)


async def run(settings: Settings) -> None:
    """Open the real adapters and serve until told to stop."""
    clock, ids = SystemClock(), SystemIds()
    database = await open_database(
        settings.database_url, migrations=settings.migrations, clock=clock
    )
    try:
        bus = connect_bus(Service.AI_BROKER, settings, clock=clock, ids=ids)
        composed = compose(
            settings=settings, database=database, bus=bus, clock=clock, ids=ids
        )
        try:
            await serve(
                composed.runnable, bus=bus, checks=checks(database), settings=settings
            )
        finally:
            for vendor in composed.deps.vendors.values():
                await vendor.close()
    finally:
        await database.close()
