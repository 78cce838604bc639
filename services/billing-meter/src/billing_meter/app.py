"""The composition root: names every adapter, opens, wires, closes."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from billing_meter.adapters.shelf import FolderShelf
from billing_meter.adapters.sql import SqlStore
from billing_meter.adapters.tables import SHARED
from billing_meter.entrypoints.http import checks
from billing_meter.entrypoints.subscribers import subscriptions
from billing_meter.handlers import keep_forever
from billing_meter.ports import Deps, Shelf
from billing_meter.settings import Settings
from contracts.prices import PriceBook
from contracts.subjects import Service
from determinism import Bell, Clock, IdSource, SystemClock, SystemIds
from messaging.burial import StoreSink
from messaging.bus import Bus
from messaging.housekeeping import dispatcher, housekeeping
from messaging.runner import connect_bus, serve
from messaging.subscriptions import Runnable
from persistence.database import Database, open_database
from persistence.delivery import DeliveryStore
from pricing import read_book
from pricing.book import PriceDocument


@dataclass(frozen=True)
class Composed:
    """A wired service."""

    runnable: Runnable
    deps: Deps


def compose(
    *, settings: Settings, database: Database, bus: Bus, clock: Clock, ids: IdSource
) -> Composed:
    """Wire the service onto these ports."""
    del ids  # every id here is derived from the usage record's own
    deps = Deps(
        store=SqlStore(database, clock),
        clock=clock,
        shelf=open_shelf(settings.price_file, settings.price_folder),
        bells=bus,
        changes=Bell(),
    )
    delivery = DeliveryStore(database, SHARED, clock=clock, owner=bus.instance)
    own = subscriptions(deps)
    keeping = housekeeping(Service.BILLING_METER, delivery, dispatcher(own))
    sink = StoreSink(Service.BILLING_METER, delivery, bus, clock)
    loops = (partial(keep_forever, deps),)
    runnable = Runnable(Service.BILLING_METER, (*own, *keeping), loops, sink=sink)
    return Composed(runnable, deps)


def load_book(path: Path) -> PriceBook:
    """Read and freeze the price document."""
    return read_book(PriceDocument.model_validate(yaml.safe_load(path.read_text())))


def open_shelf(price_file: Path, price_folder: Path | None = None) -> Shelf:
    """Open the price books, the document's being the first."""
    return FolderShelf(load_book(price_file), price_folder)


async def run(settings: Settings) -> None:
    """Open the real adapters and serve until told to stop."""
    clock, ids = SystemClock(), SystemIds()
    database = await open_database(
        settings.database_url, migrations=settings.migrations, clock=clock
    )
    try:
        bus = connect_bus(Service.BILLING_METER, settings, clock=clock, ids=ids)
        composed = compose(
            settings=settings, database=database, bus=bus, clock=clock, ids=ids
        )
        await serve(
            composed.runnable, bus=bus, checks=checks(database), settings=settings
        )
    finally:
        await database.close()
