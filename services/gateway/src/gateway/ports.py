"""What the handlers need from outside."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingRequest
from contracts.message import Message
from contracts.owed import Owed
from contracts.subjects import Address
from contracts.tenants import Tenant
from determinism import Clock, IdSource
from gateway.domain.admission import Submission
from gateway.domain.keys import ApiKey
from gateway.domain.known_keys import KnownKeys
from messaging.bus import FrameStream

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class Work(Protocol):
    """The gateway's store inside one transaction."""

    def submission(self, tenant: str, task_id: str) -> Submission | None:
        """Return an accepted task, if it is this tenant's."""
        ...

    def save_submission(self, submission: Submission) -> None:
        """Keep an accepted task."""
        ...

    def owe(self, owed: Sequence[Owed]) -> None:
        """Put messages into the outbox."""
        ...

    def api_key(self, key_id: str) -> ApiKey | None:
        """Return a key by its id."""
        ...

    def api_keys(self, tenant: str | None) -> Sequence[ApiKey]:
        """Return a tenant's keys; None for all."""
        ...

    def add_api_key(self, key: ApiKey) -> None:
        """Keep a new key; its id must be free."""
        ...

    def put_api_key(self, key: ApiKey) -> None:
        """Keep a key in the place of whatever has its id."""
        ...

    def revoke_api_key(self, key_id: str, now: datetime) -> bool:
        """Revoke a key at once; False when there is none."""
        ...

    def tenants(self) -> Sequence[Tenant]:
        """Return every tenant."""
        ...

    def add_tenant(self, tenant: Tenant) -> bool:
        """Insert a tenant; False when the id is taken."""
        ...


class Store(Protocol):
    """Where the gateway keeps what it must not lose."""

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a sync closure in one transaction; returns once committed."""
        ...

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        ...


class Peers(Protocol):
    """The other services, by subject."""

    async def request(
        self, address: Address, request: Message, reply: type[M], *, timeout_s: float
    ) -> M:
        """Ask one of them; see ``messaging.bus.Bus.request``."""
        ...

    def complete(
        self, request: CompletionRequest | EmbeddingRequest
    ) -> AbstractAsyncContextManager[FrameStream]:
        """Ask ai-broker; see ``messaging.bus.Bus.complete``."""
        ...

    async def announce(self, subject: str, message: Message) -> None:
        """Ring a bell."""
        ...

    def watch(
        self, subject: str, message: type[M]
    ) -> AbstractAsyncContextManager[AsyncIterator[M]]:
        """Hear bells and deltas."""
        ...


class PasswordHasher(Protocol):
    """How NATS passwords are kept."""

    def __call__(self, password: str) -> str:
        """Return the bcrypt hash that nats-server reads."""
        ...


@dataclass(frozen=True)
class Deps:
    """Everything that the handlers use."""

    store: Store
    peers: Peers
    clock: Clock
    ids: IdSource
    hash_password: PasswordHasher
    nats_url: str
    peer_timeout_s: float = 5.0
    known_keys: KnownKeys = field(default_factory=KnownKeys)
    """This process's own."""
