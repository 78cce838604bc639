"""A server configured as in production: accounts, users, permissions."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import nats
import pytest
from nats.aio.client import Client

from contracts.subjects import Service
from determinism import SystemClock, SystemIds
from messaging.limits import BusLimits
from messaging.nats_bus import NatsBus
from nats_bootstrap.reconcile import Outward, Reconciler
from nats_bootstrap.render import render
from nats_bootstrap.topology import ALL_USERS
from nats_bootstrap.users import System, UsersFile
from testkit.nats_server import NatsServer

PASSWORDS = {name: f"password-of-{name}" for name in ALL_USERS}
TENANTS = ("acme", "globex")
USERS_NAME = "users.conf"


def hash_of(password: str) -> str:
    """Return a cheap bcrypt hash."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


TENANT_HASHES = tuple((name, hash_of(f"password-of-{name}")) for name in TENANTS)


def configure(port: int, store: Path) -> str:
    """Write the users' file beside the configuration, and return the latter."""
    config, users = render(
        PASSWORDS,
        TENANT_HASHES,
        port=port,
        store_dir=store,
        include_path=USERS_NAME,
    )
    store.parent.joinpath(USERS_NAME).write_text(users)
    return config


@dataclass
class Secured:
    """A server with accounts, and whoever connected to it."""

    server: NatsServer
    clients: list[Client] = field(default_factory=list[Client])
    errors: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def users_path(self) -> Path:
        """Return the file that the bootstrap rewrites."""
        return self.server.folder / USERS_NAME

    async def connect(
        self,
        user: str,
        password: str | None = None,
        *,
        inbox_prefix: str | None = None,
    ) -> Client:
        """
        Connect as a user; its refused permissions go to ``errors``.

        Args:
            user: Its name.
            password: Its password, if not the fixture's.
            inbox_prefix: Where its replies go; its own by default.
        """
        found = self.errors.setdefault(user, [])

        async def note(error: Exception) -> None:
            found.append(str(error))

        client = await nats.connect(  # pyright: ignore[reportUnknownMemberType]
            self.server.url,
            user=user,
            password=password or f"password-of-{user.removeprefix('tenant-')}",
            inbox_prefix=inbox_prefix or f"_INBOX.{user}",
            error_cb=note,
            allow_reconnect=False,
        )
        self.clients.append(client)
        return client

    async def is_refused(self, user: str, client: Client) -> bool:
        """Return whether the server has refused something since the last look."""
        # nats-py's first PING overtakes what was just published.
        await client.flush()
        await client.flush()
        found = self.errors[user]
        refused = any("permissions violation" in text.lower() for text in found)
        found.clear()
        return refused

    async def may_publish(self, user: str, client: Client, to: str) -> bool:
        """Try to publish."""
        await client.publish(to, b"{}")
        return not await self.is_refused(user, client)

    async def may_subscribe(self, user: str, client: Client, to: str) -> bool:
        """Try to subscribe."""
        subscription = await client.subscribe(to)  # pyright: ignore[reportUnknownMemberType]
        allowed = not await self.is_refused(user, client)
        await subscription.unsubscribe()
        return allowed

    def bus(self, service: Service) -> NatsBus:
        """Return a service's bus, with its own user."""
        return NatsBus(
            service,
            url=self.server.url,
            user=str(service),
            password=PASSWORDS[str(service)],
            instance=SystemIds().new("instance"),
            clock=SystemClock(),
            ids=SystemIds(),
            limits=BusLimits(
                pull_s=0.3, pull_pause_s=0.1, streams_poll_s=0.2, reconnect_wait_s=0.1
            ),
        )

    def reconciler(self, bus: NatsBus) -> tuple[Reconciler, System]:
        """Return a reconciler with a short timer, and what must be closed."""
        system = System(self.server.url, PASSWORDS["sys"])
        outward = Outward(
            bus=bus,
            system=system,
            users=UsersFile(self.users_path),
            clock=SystemClock(),
            interval_s=0.3,
        )
        return Reconciler(outward), system


@pytest.fixture
def secured_server() -> Iterator[NatsServer]:
    """Lend a configured server."""
    server = NatsServer(configure)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
async def secured(secured_server: NatsServer) -> AsyncIterator[Secured]:
    """Lend the server and ways to connect to it."""
    made = Secured(secured_server)
    try:
        yield made
    finally:
        for client in made.clients:
            if not client.is_closed:
                await client.close()


@pytest.fixture
async def reconciled(secured: Secured) -> Secured:
    """Lend the server after one pass of the bootstrap."""
    bus = secured.bus(Service.BOOTSTRAP)
    await bus.connect()
    reconciler, system = secured.reconciler(bus)
    await reconciler.reconcile()
    await system.close()
    await bus.close()
    return secured
