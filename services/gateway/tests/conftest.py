"""The gateway on an in-memory store, with scripted peers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from contracts.message import Message
from contracts.problems import Code
from contracts.subjects import Address
from determinism import SeededIds, SystemClock
from gateway.adapters.tables import GatewayTable
from gateway.app import Composed, compose
from gateway.handlers.tenants import seed_admin
from gateway.settings import Settings
from messaging.bus import Outgoing
from messaging.refusals import refuse
from persistence.inline import InlineDatabase

M = TypeVar("M", bound=Message)
ADMIN = "de_admin_" + "a" * 64


@dataclass
class ScriptedBus:
    """Answers requests from a table of verbs; keeps what was published."""

    answers: dict[str, Callable[[Any], Message]] = field(default_factory=dict)
    asked: list[tuple[str, Message]] = field(default_factory=list)
    published: list[Outgoing] = field(default_factory=list)
    instance: str = "gateway_1"

    async def publish(self, outgoing: Outgoing) -> None:
        self.published.append(outgoing)

    async def announce(self, subject: str, message: Message) -> None:
        self.asked.append((subject, message))

    async def request(
        self, address: Address, request: Message, reply: type[M], *, timeout_s: float
    ) -> M:
        self.asked.append((str(address), request))
        answer = self.answers.get(address.verb.name)
        if answer is None:
            raise refuse(Code.NOT_FOUND, f"nobody scripted {address}")
        found = answer(request)
        assert isinstance(found, reply)
        return found

    def complete(self, request: Message) -> Any:
        raise AssertionError("the gateway asks for no completion yet")

    @asynccontextmanager
    async def watch(
        self, subject: str, message: type[M]
    ) -> AsyncIterator[AsyncIterator[M]]:
        yield Silence()


class Silence:
    """A subject on which nothing is said."""

    def __aiter__(self) -> "Silence":
        return self

    async def __anext__(self) -> Any:
        raise StopAsyncIteration


@pytest.fixture
def bus() -> ScriptedBus:
    """Return the scripted peers."""
    return ScriptedBus()


@pytest.fixture
async def gateway(bus: ScriptedBus, tmp_path: Path) -> AsyncIterator[Composed]:
    """Return a composed gateway with an admin key."""
    database = InlineDatabase.create(GatewayTable.metadata)
    composed = compose(
        settings=Settings(database_url=f"sqlite:///{tmp_path}/unused.db"),
        database=database,
        bus=bus,
        clock=SystemClock(),
        ids=SeededIds(1),
    )
    await seed_admin(ADMIN, composed.deps)
    yield composed
    await database.close()


@pytest.fixture
async def client(gateway: Composed) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client without a key."""
    transport = httpx.ASGITransport(gateway.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gw") as opened:
        yield opened


@pytest.fixture
async def acme(client: httpx.AsyncClient) -> dict[str, str]:
    """Return the headers of a tenant's key."""
    return await tenant_headers(client, "acme")


async def tenant_headers(client: httpx.AsyncClient, tenant: str) -> dict[str, str]:
    """Make a tenant and return the headers of its key."""
    headers = {"authorization": f"Bearer {ADMIN}"}
    made = await client.post("/v1/tenants", json={"tenant": tenant}, headers=headers)
    assert made.status_code == 201, made.text
    return {"authorization": f"Bearer {made.json()['api_key']}"}
