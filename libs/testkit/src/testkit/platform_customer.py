"""A tenant's own systems: its HTTP client, its NATS client, its tasks and ledger."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from contracts.ledger import LedgerLine, LedgerPage
from contracts.tasks import TaskPage, TaskStatus, TaskView
from testkit.until import until

LIMIT_S: Final = 30.0
POLL_S: Final = 0.2
PAGE: Final = 200
ACCEPTED: Final = 202
OK: Final = 200
CONNECTIONS_MAX: Final = 40
NATS_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class NatsLogin:
    """A NATS user."""

    url: str
    user: str
    password: str
    inbox_prefix: str


class NatsGuest:
    """
    A connection of a NATS user, and the errors that the server told it.

    Args:
        client: nats-py's client; Any, because its methods are typed in part only.
    """

    def __init__(self, client: Any, errors: list[str]) -> None:
        self._client = client
        self.errors = errors

    async def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish, and return once the server has read it."""
        await self._client.publish(subject, body, headers=dict(headers or {}) or None)
        await self._client.flush()

    async def publish_kept(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> str:
        """Publish with JetStream's word that it is kept; return the stream's name."""
        stream = self._client.jetstream()
        ack = await stream.publish(subject, body, headers=dict(headers or {}) or None)
        return ack.stream

    async def request(self, subject: str, body: bytes) -> Msg:
        """Return the first reply."""
        return await self._client.request(subject, body, timeout=NATS_LIMIT_S)

    async def subscribe(
        self, subject: str, hear: Callable[[Msg], None]
    ) -> Subscription:
        """Hear a subject; returns once the server has read it."""

        async def on_message(msg: Msg) -> None:
            hear(msg)

        found: Subscription = await self._client.subscribe(subject, cb=on_message)
        await self._client.flush()
        return found


@asynccontextmanager
async def nats_client(login: NatsLogin) -> AsyncGenerator[NatsGuest]:
    """
    Connect as a user with nats-py, as any other system would.

    Raises:
        nats.errors.Error: The server does not let this user in.
    """
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    client = Client()
    connect: Any = client.connect  # its options are untyped
    await connect(
        login.url,
        user=login.user,
        password=login.password,
        inbox_prefix=login.inbox_prefix.encode(),
        allow_reconnect=False,
        connect_timeout=int(NATS_LIMIT_S),
        error_cb=note,
    )
    try:
        yield NatsGuest(client, errors)
    finally:
        await client.close()


class Customer:
    """
    Everything that one tenant does over HTTP.

    Args:
        tenant: Its id.
        api_key: Its key.
        login: Its NATS user.
        gateways: Every replica's URL; the next one is asked when one is gone.
    """

    def __init__(
        self, tenant: str, api_key: str, login: NatsLogin, gateways: Sequence[str]
    ) -> None:
        self.tenant = tenant
        self.api_key = api_key
        self.login = login
        headers = {"authorization": f"Bearer {api_key}"}
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX)
        self._doors = [
            httpx.AsyncClient(
                base_url=url, headers=headers, timeout=LIMIT_S, limits=limits
            )
            for url in gateways
        ]
        self.http = self._doors[0]
        """The first gateway, for tests that look at status and headers."""

    async def close(self) -> None:
        """Close the connections."""
        for door in self._doors:
            await door.aclose()

    async def submit(self, bodies: Sequence[Mapping[str, Any]]) -> list[str]:
        """Hand in tasks at once, spread over the gateways; return their ids."""
        doors = [
            self._doors[number % len(self._doors)] for number in range(len(bodies))
        ]
        answers = await asyncio.gather(
            *(
                door.post("/v1/tasks", json=body)
                for door, body in zip(doors, bodies, strict=True)
            )
        )
        refused = [each.text for each in answers if each.status_code != ACCEPTED]
        if refused:
            raise AssertionError(f"{len(refused)} tasks refused: {refused[0]}")
        return [each.json()["task_id"] for each in answers]

    async def get(self, task_id: str) -> TaskView:
        """Return a task, waiting out whatever is down for a moment."""
        text = await until(
            lambda: self._ask(f"/v1/tasks/{task_id}", {}), LIMIT_S, f"{task_id} to show"
        )
        return TaskView.model_validate_json(text)

    async def run(self, body: Mapping[str, Any], limit_s: float = 60.0) -> TaskView:
        """Hand in one task and return it once it has ended and its cost is final."""
        (task_id,) = await self.submit([body])
        await self.await_end([task_id], limit_s)
        return await self.settled(task_id, limit_s)

    async def settled(self, task_id: str, limit_s: float = 30.0) -> TaskView:
        """Return a task once its cost is final."""

        async def look() -> TaskView | None:
            task = await self.get(task_id)
            return task if task.cost and not task.cost.provisional else None

        return await until(look, limit_s, f"the final cost of {task_id}")

    async def await_end(
        self, task_ids: Sequence[str], limit_s: float
    ) -> list[TaskView]:
        """
        Return the tasks, in this order, once every one has ended.

        Raises:
            NotInTimeError: Some have not; the text tells where they stand.
        """
        wanted = set(task_ids)
        seen: dict[str, TaskStatus] = {}

        async def look() -> bool:
            for task in await self.list_tasks(wanted):
                if task.task_id in wanted:
                    seen[task.task_id] = task.status
            return all(i in seen and seen[i].is_end for i in wanted)

        def describe() -> str:
            open_ids = [i for i in task_ids if i not in seen or not seen[i].is_end]
            first = [(i, seen.get(i)) for i in open_ids[:3]]
            return f"the end of {len(open_ids)} of {len(wanted)} tasks, as {first}"

        await until(look, limit_s, describe, poll_s=POLL_S)
        return [await self.get(task_id) for task_id in task_ids]

    async def list_tasks(self, wanted: set[str] | None = None) -> list[TaskView]:
        """Return tasks, newest first; only until the wanted ones were seen."""
        found: list[TaskView] = []
        left = None if wanted is None else set(wanted)
        cursor: str | None = None
        while left is None or left:
            query = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
            text = await self._ask("/v1/tasks", query)
            if text is None:
                return found
            page = TaskPage.model_validate_json(text)
            found.extend(page.tasks)
            cursor = page.next_cursor
            if left is not None:
                left -= {task.task_id for task in page.tasks}
            if cursor is None:
                return found
        return found

    async def ledger(self) -> list[LedgerLine]:
        """Return every ledger line in force, oldest first."""
        found: list[LedgerLine] = []
        cursor: str | None = None
        while True:
            query = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
            text = await until(
                lambda query=query: self._ask("/v1/ledger", query), LIMIT_S, "ledger"
            )
            page = LedgerPage.model_validate_json(text)
            found.extend(page.lines)
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _ask(self, path: str, query: Mapping[str, str]) -> str | None:
        """Return the answer of the first gateway that has one."""
        for door in self._doors:
            try:
                answer = await door.get(path, params=dict(query))
            except httpx.TransportError:
                continue
            if answer.status_code == OK:
                return answer.text
            if answer.is_client_error:
                raise AssertionError(f"{path}: {answer.status_code} {answer.text}")
        return None
