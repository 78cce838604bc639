"""
The vendors that can be called now, by a catalogue that is read again when it changes.

A request takes one offer and keeps it, so it sees one version of menu and clients. A
client whose address, key and entry stay the same stays too; one that is replaced is
closed when no request can have it any more. A catalogue with a mistake changes nothing
but a log line and a metric.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

import telemetry
from ai_broker.adapters.key_files import KeyFile, find_key_files
from ai_broker.adapters.vendors.pool import FileKeyed
from ai_broker.adapters.watched_file import WatchedFile
from ai_broker.domain.catalogue import (
    Catalogue,
    Endpoint,
    addresses,
    keyed,
    menu_of,
    usable,
)
from ai_broker.ports import Offer
from ai_broker.ports.vendors import EmbeddingVendor
from determinism import Clock

log = telemetry.get_logger()


@dataclass(frozen=True)
class Surroundings:
    """What decides which vendors can be called here."""

    environment: Mapping[str, str]
    sandbox_url: str | None
    make: Callable[[Endpoint], EmbeddingVendor]
    """Opens a client."""
    keep_s: float
    """How long a request may hold a client that has been replaced."""


class CatalogueFile:
    """
    The file, and which version of it has been looked at.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = WatchedFile(path)

    def newer(self) -> Catalogue | None:
        """
        Return the catalogue; None when it is what was looked at before.

        Raises:
            ValueError: It cannot be read; each version says so once.
        """
        content = self._file.newer()
        if content is None:
            return None
        try:
            return Catalogue.model_validate(yaml.safe_load(content))
        except yaml.YAMLError as cause:
            raise ValueError(f"{self.path}: no YAML: {cause}") from cause


class FileOffers:
    """
    Offers by a catalogue's file.

    Args:
        file: The catalogue.
        surroundings: Keys, addresses and what opens clients.
        clock: Ages what has been replaced.

    Raises:
        ValueError: The catalogue has a mistake, which stops the start.
    """

    def __init__(
        self, file: CatalogueFile, surroundings: Surroundings, clock: Clock
    ) -> None:
        self._file = file
        self._surroundings = surroundings
        self._clock = clock
        self._clients: dict[str, tuple[Endpoint, EmbeddingVendor]] = {}
        self._retired: list[tuple[float, EmbeddingVendor]] = []
        self.keyable: dict[str, Endpoint] = {}
        """The address of each vendor that takes a tenant's key; changed in place."""
        catalogue = file.newer()
        if catalogue is None:
            raise ValueError(f"{file.path}: cannot be read")
        self._offer = self._offered(catalogue)

    def now(self) -> Offer:
        """Return what can be called now."""
        return self._offer

    async def refresh(self) -> None:
        """Look whether the catalogue has changed, and take it if it is right."""
        try:
            catalogue = await asyncio.to_thread(self._file.newer)
            if catalogue is not None:
                self._offer = self._offered(catalogue)
                telemetry.metrics.catalogue_reloads_total.add(1, outcome="ok")
                telemetry.metrics.catalogue_rejected.set(0)
                log.info("catalogue_taken", path=str(self._file.path))
        except ValueError as cause:
            telemetry.metrics.catalogue_reloads_total.add(1, outcome="invalid")
            telemetry.metrics.catalogue_rejected.set(1)
            log.error(  # noqa: TRY400 -- the text says it all
                "catalogue_rejected", path=str(self._file.path), detail=str(cause)
            )
        await self._close_retired(self._clock.monotonic())

    async def close(self) -> None:
        """Close every client."""
        for _, vendor in self._clients.values():
            await vendor.close()
        await self._close_retired(float("inf"))

    def _offered(self, catalogue: Catalogue) -> Offer:
        around = self._surroundings
        files = find_key_files(catalogue, around.environment)
        keys = {name: file.key() for name, file in files.items()}
        environment = {**around.environment, **keys}
        endpoints = usable(catalogue, environment, around.sandbox_url)
        keyable = addresses(catalogue, around.environment, around.sandbox_url)
        # Nothing below fails: an offer is taken whole or not at all.
        clients: dict[str, tuple[Endpoint, EmbeddingVendor]] = {}
        for each in endpoints:
            known = self._clients.pop(each.entry.name, None)
            if known is not None and known[0] == each:
                clients[each.entry.name] = known
                continue
            self._retire(known)
            clients[each.entry.name] = (each, self._open(each, files, environment))
        for gone in self._clients.values():
            self._retire(gone)
        self._clients = clients
        self.keyable.clear()
        self.keyable.update(keyable)
        vendors = {name: client for name, (_, client) in clients.items()}
        menu = menu_of(catalogue, vendors, keyed(catalogue, environment))
        return Offer(vendors, menu, frozenset(keyable))

    def _open(
        self,
        endpoint: Endpoint,
        files: Mapping[str, KeyFile],
        environment: Mapping[str, str],
    ) -> EmbeddingVendor:
        make = self._surroundings.make
        used = next((n for n in endpoint.entry.key_envs if environment.get(n)), "")
        file = files.get(used)
        return make(endpoint) if file is None else FileKeyed(endpoint, file, make)

    def _retire(self, known: tuple[Endpoint, EmbeddingVendor] | None) -> None:
        if known is not None:
            due_s = self._clock.monotonic() + self._surroundings.keep_s
            self._retired.append((due_s, known[1]))

    async def _close_retired(self, now_s: float) -> None:
        due = [vendor for at_s, vendor in self._retired if at_s <= now_s]
        self._retired = [each for each in self._retired if each[0] > now_s]
        for vendor in due:
            await vendor.close()
