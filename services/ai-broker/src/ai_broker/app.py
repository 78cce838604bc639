"""The composition root: names every adapter, opens, wires, closes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import yaml

from ai_broker.adapters.answer_cache import SqlAnswerCache
from ai_broker.adapters.credentials import SqlCredentials
from ai_broker.adapters.keyring import Keyring, read_keks
from ai_broker.adapters.memory_quotas import MemoryQuotas
from ai_broker.adapters.meter import BusMeter
from ai_broker.adapters.offers import CatalogueFile, FileOffers, Surroundings
from ai_broker.adapters.own_vendors import OwnVendors
from ai_broker.adapters.rate_file import NoRates, RateFile
from ai_broker.adapters.slices import SqlSlices
from ai_broker.adapters.sql import SqlStore
from ai_broker.adapters.tables import SHARED
from ai_broker.adapters.vendors.client import VendorClient
from ai_broker.adapters.vendors.direct import DirectTransport
from ai_broker.adapters.vendors.embedding import OpenAIEmbedder, WithEmbeddings
from ai_broker.adapters.vendors.pool import VendorPool
from ai_broker.adapters.vendors.sdk import SdkTransport
from ai_broker.adapters.vendors.transport import Patience
from ai_broker.domain.catalogue import Endpoint, Menu, Protocol, addresses, menu_of
from ai_broker.domain.guard.policy import GuardBook
from ai_broker.entrypoints.http import checks
from ai_broker.entrypoints.subscribers import subscriptions
from ai_broker.handlers import (
    Desk,
    keep_places_forever,
    prune_forever,
    refresh_forever,
    refresh_rates_forever,
    rewrap_forever,
    sweep_forever,
    tell_forever,
)
from ai_broker.handlers.money import Money
from ai_broker.ports import Aside, Deps, Limits, here
from ai_broker.ports.rates import Quotas, Rates
from ai_broker.ports.vendors import EmbeddingVendor, Vendor
from ai_broker.settings import Settings
from contracts.subjects import Service
from determinism import Bell, Clock, IdSource, SystemClock, SystemIds
from messaging.burial import StoreSink
from messaging.bus import Bus
from messaging.housekeeping import dispatcher, housekeeping
from messaging.relay import Relay
from messaging.runner import connect_bus, serve
from messaging.subscriptions import Runnable
from persistence.database import Database, open_database
from persistence.delivery import DeliveryStore

TRANSPORTS: Final = {"direct": DirectTransport, "sdk": SdkTransport}


@dataclass(frozen=True)
class Composed:
    """A wired service."""

    runnable: Runnable
    deps: Deps
    desk: Desk
    pool: VendorPool
    offers: FileOffers | None
    quotas: Quotas

    async def close(self) -> None:
        """Close every connection to vendors and to Redis."""
        await self.quotas.close()
        if self.offers is not None:
            await self.offers.close()
        await self.pool.close()


def compose(
    *,
    settings: Settings,
    database: Database,
    bus: Bus,
    clock: Clock,
    ids: IdSource,
    vendors: Mapping[str, Vendor] | None = None,
    aside: Aside = here,
) -> Composed:
    """
    Wire the service onto these ports.

    Args:
        settings: The service's settings.
        database: Its store.
        bus: What it sends through.
        clock: The time.
        ids: Attempt ids and jitter.
        vendors: By name, instead of the real ones; only those are on the menu, and
            they know no embeddings.
        aside: Where work is done that would hold up the loop.
    """
    offers = open_offers(settings, clock) if vendors is None else None
    given = {name: WithEmbeddings(each, None) for name, each in (vendors or {}).items()}
    named, menu, keyable = _offered(offers, given, settings)
    delivery = DeliveryStore(database, SHARED, clock=clock, owner=bus.instance)
    relay = Relay(bus, delivery, clock)
    keyring, credentials = open_keyring(settings, ids), SqlCredentials(database)
    pool = VendorPool(_maker(settings))
    money = Money(BusMeter(bus, clock), SqlSlices(database), clock, ids, bus.instance)
    settled = Bell()
    deps = Deps(
        store=SqlStore(database, relay.wake, clock, settled, money.committed),
        settled=settled,
        vendors=named,
        menu=menu,
        clock=clock,
        ids=ids,
        instance=bus.instance,
        cache=SqlAnswerCache(database),
        own=OwnVendors(credentials, keyring, keyable, pool, clock),
        credentials=credentials,
        sealer=keyring,
        keyable=frozenset(keyable),
        offers=offers,
        limits=_limits(settings),
        guards=read_guards(settings.guard_file),
        aside=aside,
        prices=money.tariff,
    )
    desk = Desk(deps, money.purse)
    quotas = open_quotas(settings, clock)
    rates = Rates(open_rates(settings.rate_file), quotas)
    own = subscriptions(desk, money.returns, rates)
    keeping = housekeeping(Service.AI_BROKER, delivery, dispatcher(own))
    loops = _loops(deps, relay, desk, money, rates)
    sink = StoreSink(Service.AI_BROKER, delivery, bus, clock)
    runnable = Runnable(Service.AI_BROKER, (*own, *keeping), loops, sink=sink)
    return Composed(runnable, deps, desk, pool, offers, quotas)


def _loops(
    deps: Deps, relay: Relay, desk: Desk, money: Money, rates: Rates
) -> tuple[Callable[[], Awaitable[None]], ...]:
    forever = (
        tell_forever,
        sweep_forever,
        prune_forever,
        rewrap_forever,
        refresh_forever,
    )
    own = (partial(each, deps) for each in forever)
    rating = (
        partial(each, deps, rates)
        for each in (refresh_rates_forever, keep_places_forever)
    )
    return (relay.run, desk.drains.run, *money.loops, *own, *rating)


def open_offers(settings: Settings, clock: Clock) -> FileOffers:
    """Read the catalogue; a mistake in it stops the start."""
    surroundings = Surroundings(
        environment=settings.vendor_environment,
        sandbox_url=settings.sandbox_url,
        make=_maker(settings),
        keep_s=Limits().call_max_s,
    )
    return FileOffers(CatalogueFile(settings.catalogue_file), surroundings, clock)


def _offered(
    offers: FileOffers | None,
    vendors: Mapping[str, EmbeddingVendor],
    settings: Settings,
) -> tuple[Mapping[str, EmbeddingVendor], Menu, Mapping[str, Endpoint]]:
    """Return clients, menu and addresses: the catalogue's, or those handed in."""
    if offers is not None:
        offer = offers.now()
        return offer.vendors, offer.menu, offers.keyable
    catalogue = CatalogueFile(settings.catalogue_file).newer()
    if catalogue is None:
        raise ValueError(f"{settings.catalogue_file}: cannot be read")
    keyable = addresses(catalogue, settings.vendor_environment, settings.sandbox_url)
    return vendors, menu_of(catalogue, vendors), keyable


def open_rates(path: Path | None) -> RateFile | NoRates:
    """Read the rate limits; a mistake in them stops the start."""
    return NoRates() if path is None else RateFile(path)


def open_quotas(settings: Settings, clock: Clock) -> Quotas:
    """Return where rates are counted; nothing is connected by it."""
    if settings.redis_url is None:
        return MemoryQuotas(clock)
    # Half a second and 25 MB that only those pay who use it.
    from ai_broker.adapters.redis_quotas import open_redis  # noqa: PLC0415

    url = settings.redis_url.get_secret_value()
    return open_redis(url, is_cluster=settings.redis_cluster, clock=clock)


def read_guards(path: Path | None) -> GuardBook:
    """Read which tenants are guarded; a mistake in it stops the start."""
    if path is None:
        return GuardBook()
    return GuardBook.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def open_keyring(settings: Settings, ids: IdSource) -> Keyring:
    """
    Return the key-encryption keys, perhaps none.

    Raises:
        ValueError: They cannot be read; nothing of them is quoted.
    """
    if settings.kek is not None and settings.kek_file is not None:
        raise ValueError("AI_BROKER_KEK and AI_BROKER_KEK_FILE are both set: set one")
    if settings.kek_file is not None:
        return Keyring(read_keks(settings.kek_file.read_text("utf-8")), ids)
    return Keyring(
        read_keks(settings.kek.get_secret_value() if settings.kek else ""), ids
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        lease_s=settings.lease_s,
        heartbeat_s=settings.lease_s / 4,
        keep_s=timedelta(days=settings.keep_days).total_seconds(),
    )


def _maker(settings: Settings) -> Callable[[Endpoint], EmbeddingVendor]:
    """Return what makes a client of an endpoint; nothing is connected by it."""
    patience = Patience(settings.vendor_connect_s, settings.vendor_idle_s)

    def make(endpoint: Endpoint) -> EmbeddingVendor:
        transport = TRANSPORTS[settings.vendor_transport](endpoint, patience)
        embeds = endpoint.entry.protocol is Protocol.OPENAI
        embedder = OpenAIEmbedder(endpoint, transport) if embeds else None
        return WithEmbeddings(VendorClient(endpoint, transport), embedder)

    return make


async def run(settings: Settings) -> None:
    """Open the real adapters and serve until told to stop."""
    clock, ids = SystemClock(), SystemIds()
    database = await open_database(
        settings.database_url, migrations=settings.migrations, clock=clock
    )
    try:
        bus = connect_bus(Service.AI_BROKER, settings, clock=clock, ids=ids)
        composed = compose(
            settings=settings,
            database=database,
            bus=bus,
            clock=clock,
            ids=ids,
            aside=asyncio.to_thread,
        )
        try:
            await serve(
                composed.runnable, bus=bus, checks=checks(database), settings=settings
            )
        finally:
            await composed.close()
    finally:
        await database.close()
