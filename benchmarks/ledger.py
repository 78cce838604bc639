"""
Usage records into the ledger: decoded, judged, posted, committed.

    ./just bench ledger

Batches as ai-broker sends them, of 500 records of 100 tasks, go through
billing-meter's own handler into SQLite (synchronous=FULL) and PostgreSQL
(fsync on). What is measured begins with a batch's bytes and ends with its commit.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from results_file import keep

from billing_meter.adapters.sql import SqlStore
from billing_meter.app import open_shelf
from billing_meter.handlers.usage import meter_usage
from billing_meter.ports import Deps
from billing_meter.settings import HERE
from contracts.message import Message
from contracts.usage import EndState, TokenUsage, UsageBatch, UsageRecord, UsageSource
from determinism import Bell, SystemClock
from messaging.bus import Delivery
from persistence.database import open_database
from testkit.servers import open_postgres

BATCH: Final = 500
BATCHES: Final = 60
AT_ONCE: Final = 2
CLOCK: Final = SystemClock()


@dataclass(frozen=True)
class Rate:
    """How fast one store took the records."""

    store: str
    records: int
    took_s: float
    cpu_s: float


class NoBells:
    """Rings nothing."""

    async def announce(self, subject: str, message: Message) -> None:
        """Do nothing."""


def batches() -> Sequence[bytes]:
    """Return encoded batches of new attempts."""
    now = CLOCK.now()

    def record(number: int) -> UsageRecord:
        return UsageRecord(
            attempt_id=f"attempt_{number:032x}",
            revision=0,
            attempt_number=1,
            tenant="acme",
            task_id=f"task_{number % 100}",
            employee="invoice-clerk",
            completion_id=f"step_{number}:0",
            vendor="sandbox-openai",
            requested_model="smart",
            model="sandbox-small",
            usage=TokenUsage(input_tokens=1_000, output_tokens=100),
            source=UsageSource.VENDOR,
            end_state=EndState.COMPLETED,
            finish_reason="stop",
            http_status=200,
            raw_usage={"prompt_tokens": 1_000, "completion_tokens": 100},
            started_at=now,
            occurred_at=now,
        )

    return [
        UsageBatch(
            batch_id=f"usage_{start}",
            tenant="acme",
            records=tuple(record(each) for each in range(start, start + BATCH)),
        ).encode()
        for start in range(0, BATCH * BATCHES, BATCH)
    ]


async def ingest(store: str, url: str) -> Rate:
    """Take all batches, a few at once."""
    database = await open_database(url, migrations=HERE / "migrations", clock=CLOCK)
    deps = Deps(
        store=SqlStore(database, CLOCK),
        clock=CLOCK,
        shelf=open_shelf(HERE / "prices.yaml"),
        bells=NoBells(),
        changes=Bell(),
    )
    waiting = list(enumerate(batches()))

    async def worker() -> None:
        while waiting:
            number, body = waiting.pop()
            came = Delivery(
                "work.billing-meter.stable.usage.acme", f"m{number}", "acme"
            )
            await meter_usage(UsageBatch.model_validate_json(body), came, deps)

    began_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    took = time.perf_counter() - began_s
    rate = Rate(store, BATCH * BATCHES, took, time.process_time() - cpu_s)
    await database.close()
    return rate


async def measure() -> Sequence[Rate]:
    """Measure both stores."""
    with tempfile.TemporaryDirectory() as folder:
        found = [await ingest("SQLite FULL", f"sqlite:///{Path(folder)}/ledger.db")]
    server = open_postgres()
    try:
        found.append(await ingest("PostgreSQL", server.url))
    finally:
        server.stop()
    return found


def run() -> None:
    """Measure and keep the result."""
    lines = [
        "| store | records | records/s | our CPU µs a record |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {each.store} | {each.records:,} | {each.records / each.took_s:,.0f} "
        f"| {each.cpu_s / each.records * 1e6:.0f} |"
        for each in uvloop.run(measure())
    ]
    keep("ledger", f"Usage records into the ledger, batches of {BATCH},", lines)
