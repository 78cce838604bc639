"""Usage as the broker sends it, and a clock that stands still."""

from collections.abc import Sequence
from datetime import UTC, datetime

from billing_meter.adapters.sql import SqlStore
from billing_meter.adapters.tables import SHARED
from billing_meter.app import open_shelf
from billing_meter.ports import Deps
from billing_meter.settings import HERE
from contracts.deadletters import DeadLetter
from contracts.message import Message
from contracts.usage import EndState, TokenUsage, UsageBatch, UsageRecord, UsageSource
from determinism import Bell, Clock
from messaging.bus import Delivery
from persistence.database import Database
from persistence.dead_letter import DeadLetters

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class StillClock:
    """A clock that shows NOW."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, duration_s: float) -> None:
        raise AssertionError("nothing here waits")


def record(attempt: str, **options: object) -> UsageRecord:
    """Return a completed attempt of a sandbox model: 1,000 in, 100 out."""
    fields: dict[str, object] = {
        "attempt_id": attempt,
        "revision": 0,
        "attempt_number": 1,
        "tenant": "acme",
        "task_id": "task_1",
        "completion_id": "step_1:1",
        "vendor": "sandbox-openai",
        "requested_model": "smart",
        "model": "sandbox-small",
        "usage": TokenUsage(input_tokens=1000, output_tokens=100),
        "source": UsageSource.VENDOR,
        "end_state": EndState.COMPLETED,
        "started_at": NOW,
        "occurred_at": NOW,
    }
    return UsageRecord.model_validate(fields | options)


def batch(*records: UsageRecord) -> UsageBatch:
    """Return a batch of one tenant."""
    return UsageBatch(batch_id="batch", tenant="acme", records=records)


def delivery(message_id: str) -> Delivery:
    """Return what comes beside a usage batch."""
    return Delivery("work.billing-meter.stable.usage.acme", message_id, "acme")


class Rung:
    """Remembers the bells that were rung."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, Message]] = []

    async def announce(self, subject: str, message: Message) -> None:
        self.rung.append((subject, message))


def deps_on(database: Database, clock: Clock | None = None) -> Deps:
    """Return the handlers' dependencies on a database."""
    clock = clock or StillClock()
    return Deps(
        store=SqlStore(database, clock),
        clock=clock,
        shelf=open_shelf(HERE / "prices.yaml"),
        bells=Rung(),
        changes=Bell(),
    )


async def letters(database: Database) -> Sequence[DeadLetter]:
    """Return the dead letters of a store."""
    return await database.read(
        lambda conn: DeadLetters(conn, SHARED).list(None, None, 100)
    )
