"""The catalogue is read again when it changes, and no request notices."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from genai_prices.data_snapshot import get_snapshot

from ai_broker.adapters.offers import CatalogueFile, FileOffers, Surroundings
from ai_broker.domain.catalogue import Candidate, Endpoint, quirks_of, usable
from ai_broker.domain.vendor import Prepared, Started, VendorEvent
from contracts.completions import CompletionRequest
from contracts.message import JsonObject

CATALOGUE = Path(__file__).parents[1] / "catalogue.yaml"
KEEP_S = 100.0
ONE = """
vendors:
  - {name: a, protocol: openai, base_url: "https://a.example", key_envs: [A_KEY],
     models: [{name: m-1}]}
aliases: {smart: [a/m-1]}
"""
TWO = """
vendors:
  - {name: a, protocol: openai, base_url: "https://a.example", key_envs: [A_KEY],
     models: [{name: m-1}]}
  - {name: b, protocol: openai, base_url: "https://b.example", key_envs: [B_KEY],
     models: [{name: m-2}]}
aliases: {smart: [b/m-2, a/m-1]}
tenants: {acme: {aliases: {smart: [a/m-1], own: [b/m-2]}}}
"""
ELSEWHERE = TWO.replace("a.example", "new.example")


@dataclass
class Client:
    """A vendor that only tells whether it is closed."""

    endpoint: Endpoint
    closed: bool = False

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        return Prepared({"model": candidate.model})

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        return
        yield

    embed = complete

    async def models(
        self, check_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        yield Started(200, check_id)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Clock:
    """Time that a test sets."""

    at_s: float = 0.0

    def monotonic(self) -> float:
        return self.at_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_s, UTC)

    async def sleep(self, duration_s: float) -> None:
        self.at_s += duration_s


@dataclass
class World:
    """A catalogue's file and what is offered by it."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    made: list[Client] = field(default_factory=list[Client])
    writes: int = 0

    def write(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8")
        # Two writes within one tick of the file system's clock are still two.
        self.writes += 1
        os.utime(self.path, ns=(self.writes, self.writes))

    def open(self) -> FileOffers:
        environment = {"A_KEY": "ka", "B_KEY": "kb"}
        around = Surroundings(environment, None, self.make, KEEP_S)
        return FileOffers(CatalogueFile(self.path), around, self.clock)

    def make(self, endpoint: Endpoint) -> Client:
        self.made.append(Client(endpoint))
        return self.made[-1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a catalogue with one vendor."""
    made = World(tmp_path / "catalogue.yaml")
    made.write(ONE)
    return made


def names(offers: FileOffers, tenant: str = "", name: str = "smart") -> list[str]:
    """Give who would be asked."""
    return [each.vendor for each in offers.now().menu.candidates(name, tenant)]


async def test_a_changed_catalogue_counts_and_its_old_clients_stay(
    world: World,
) -> None:
    """What is the same keeps its client; a request in progress keeps its offer."""
    offers = world.open()
    before = offers.now()
    await offers.refresh()
    assert offers.now() is before
    world.write(TWO)
    await offers.refresh()
    assert names(offers) == ["b", "a"]
    assert names(offers, "acme") == ["a"]
    assert names(offers, "acme", "own") == ["b"]
    assert names(offers, "", "own") == []
    assert [each.id for each in offers.now().menu.listing("acme").models] == [
        "a/m-1",
        "b/m-2",
        "own",
        "smart",
    ]
    assert offers.now().vendors["a"] is before.vendors["a"]
    assert [each.vendor for each in before.menu.candidates("smart")] == ["a"]
    assert set(offers.keyable) == {"a", "b"}


async def test_a_replaced_client_is_closed_when_nobody_can_have_it(
    world: World,
) -> None:
    """Not before the longest request that could have taken it is over."""
    world.write(TWO)
    offers = world.open()
    world.write(ELSEWHERE)
    await offers.refresh()
    old, other, new = world.made
    assert offers.now().vendors == {"a": new, "b": other}
    world.clock.at_s = KEEP_S - 1
    await offers.refresh()
    assert not old.closed
    world.clock.at_s = KEEP_S
    await offers.refresh()
    assert old.closed
    assert not new.closed
    assert not other.closed
    await offers.close()
    assert new.closed
    assert other.closed


@pytest.mark.parametrize(
    "mistake",
    [
        "vendors: [",
        "vendors: []",
        TWO.replace("aliases", "alias"),
        TWO.replace("protocol: openai", "protocol: morse"),
        TWO.replace("models:", "quirks: {refuses: [sampling.sed]}, models:"),
    ],
)
async def test_a_mistake_keeps_the_last_good_catalogue(
    world: World, mistake: str
) -> None:
    """It is told, and the next good version counts again."""
    offers = world.open()
    before = offers.now()
    world.write(mistake)
    await offers.refresh()
    assert offers.now() is before
    world.path.unlink()
    await offers.refresh()
    await offers.refresh()
    assert offers.now() is before
    world.write(TWO)
    await offers.refresh()
    assert names(offers) == ["b", "a"]


def test_a_mistake_stops_the_start(world: World) -> None:
    """A service that never had a good catalogue does not begin with none."""
    world.write("vendors: [")
    with pytest.raises(ValueError, match="no YAML"):
        world.open()
    world.path.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        world.open()


def test_the_shipped_catalogue_names_real_models(tmp_path: Path) -> None:
    """Models and windows are those that genai-prices knows, where it knows a vendor."""
    catalogue = CatalogueFile(CATALOGUE).newer()
    assert catalogue is not None
    known = {each.id: each for each in get_snapshot().providers}
    compared = 0
    for vendor in catalogue.vendors:
        provider = known.get(vendor.name)
        if provider is None:
            continue
        for model in vendor.models:
            found = [
                each
                for each in provider.models
                if each.id.lower() == model.name or each.match.is_match(model.name)
            ]
            assert found, f"{vendor.name} has no {model.name}"
            windows = {each.context_window for each in found}
            assert model.context_tokens in windows or windows == {None}
            compared += 1
    assert compared >= 15


def test_the_shipped_catalogue_holds_together() -> None:
    """Every alias names what is listed, and every vendor can be made usable."""
    catalogue = CatalogueFile(CATALOGUE).newer()
    assert catalogue is not None
    listed = {
        f"{vendor.name}/{model.name}"
        for vendor in catalogue.vendors
        for model in vendor.models
    }
    for alias in catalogue.aliases.values():
        assert {each.model for each in alias.models} <= listed
    for vendor in catalogue.vendors:
        assert vendor.base_url or vendor.base_url_env
        assert vendor.base_url.startswith(("https://", "{sandbox}")) or (
            not vendor.base_url
        )
        for model in vendor.models:
            assert quirks_of(vendor, model.name)


@pytest.mark.parametrize("given", ["http://h:1", "http://h:1/", "http://h:1/v1"])
def test_an_address_of_ones_own_gets_its_path_once(given: str) -> None:
    """One's own servers' addresses are given with or without it."""
    catalogue = CatalogueFile(CATALOGUE).newer()
    assert catalogue is not None
    (found,) = usable(catalogue, {"OLLAMA_BASE_URL": given}, None)
    assert found.base_url == "http://h:1/v1"
    assert usable(catalogue, {"AZURE_OPENAI_API_KEY": "k"}, None) == ()
