"""
Two ledgers side by side: the vendor's own, and ours.

They must have the same attempts, once each, and the same tokens wherever the vendor
reported them. What the vendor could not report (we were killed, we hung up) is on
our ledger too, marked as not reported.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contracts.ledger import LedgerLine
from contracts.tasks import TaskStatus, TaskView
from contracts.usage import EndState, UsageSource
from testkit.platform import Platform
from testkit.platform_customer import Customer
from testkit.platform_vendor import VendorRow
from testkit.until import NotInTimeError, until

POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Books:
    """What two ledgers say about the same tasks."""

    attempts: int
    """Calls that reached the vendor."""
    lines: int
    """Lines of ours in force."""
    unreported: int
    """Of these, such whose usage the vendor never told us."""
    differences: tuple[str, ...]
    """What does not agree; empty when the books are right."""


def compare(
    rows: Sequence[VendorRow],
    lines: Sequence[LedgerLine],
    tasks: Sequence[TaskView],
) -> Books:
    """
    Hold the vendor's rows against our lines.

    Args:
        rows: Every call of these tasks that reached the vendor.
        lines: Every line in force of these tasks.
        tasks: The tasks, ended.
    """
    differences = [
        *_pairing(rows, lines),
        *_tokens(rows, lines),
        *(hit for task in tasks for hit in _task(task, lines)),
    ]
    unreported = sum(line.source is not UsageSource.VENDOR for line in lines)
    return Books(len(rows), len(lines), unreported, tuple(differences))


async def settled_books(
    platform: Platform,
    customer: Customer,
    task_ids: Sequence[str],
    after: int,
    limit_s: float,
) -> Books:
    """
    Return the books of these tasks once they agree, or as they are in the end.

    Args:
        platform: Where the tasks ran; nothing else may run on it.
        customer: Whose tasks.
        task_ids: Which, all ended.
        after: The vendor's sequence before the first of them.
        limit_s: How long the ledger may follow behind.
    """
    newest: list[Books] = []

    async def look() -> bool:
        if await platform.vendor.open_calls():
            return False
        wanted = set(task_ids)
        rows = await platform.vendor.rows(after)
        lines = [line for line in await customer.ledger() if line.task_id in wanted]
        tasks = [await customer.get(task_id) for task_id in task_ids]
        newest[:] = [compare(rows, lines, tasks)]
        return not newest[0].differences

    try:
        await until(look, limit_s, "the books to agree", poll_s=POLL_S)
    except NotInTimeError:
        if not newest:
            raise
    return newest[0]


def _pairing(rows: Sequence[VendorRow], lines: Sequence[LedgerLine]) -> list[str]:
    at_vendor = Counter(row.client_request_id for row in rows)
    in_force = Counter(line.attempt_id for line in lines)
    found = [
        f"{attempt}: {count} calls of one attempt"
        for attempt, count in at_vendor.items()
        if count > 1
    ]
    found += [
        f"{attempt}: {count} lines in force"
        for attempt, count in in_force.items()
        if count > 1
    ]
    found += [
        f"{attempt}: at the vendor, not on the ledger"
        for attempt in at_vendor
        if attempt not in in_force
    ]
    found += [
        f"{line.attempt_id}: reported by the vendor that was never called"
        for line in lines
        if line.source is UsageSource.VENDOR and line.attempt_id not in at_vendor
    ]
    return found


def _tokens(rows: Sequence[VendorRow], lines: Sequence[LedgerLine]) -> list[str]:
    by_attempt = {line.attempt_id: line for line in lines}
    found: list[str] = []
    for row in rows:
        line = by_attempt.get(row.client_request_id)
        if line is None or not row.usage_reported:
            continue
        if line.source is not UsageSource.VENDOR:
            # The report was sent, and may have found nobody to take it.
            if line.end_state is EndState.COMPLETED:
                what = f"completed, its usage estimated ({row.fault or 'no fault'})"
                found.append(f"{line.attempt_id}: {what}")
            continue
        theirs, ours = (row.input_tokens, row.output_tokens), _sums(line)
        if theirs != ours:
            what = f"vendor {theirs}, ledger {ours} ({row.fault or 'no fault'})"
            found.append(f"{line.attempt_id}: {what}")
    return found


def _sums(line: LedgerLine) -> tuple[int, int]:
    """Return the whole input and the whole output, as the vendor counts them."""
    output = ("output_tokens", "reasoning_tokens", "output_audio_tokens")
    parts = line.usage.parts()
    out = sum(parts[name] for name in output)
    return line.usage.total - out, out


def _task(task: TaskView, lines: Sequence[LedgerLine]) -> list[str]:
    own = [line for line in lines if line.task_id == task.task_id]
    found: list[str] = []
    if task.cost is None or task.cost.provisional:
        found.append(f"{task.task_id}: its cost is not final")
    elif task.cost.pico_usd != sum(line.pico_usd for line in own):
        found.append(f"{task.task_id}: its cost is not the sum of its lines")
    # Every turn is one completion: more answers than turns is work done twice.
    answers = sum(line.end_state is EndState.COMPLETED for line in own)
    if task.status is TaskStatus.COMPLETED and answers != task.turns:
        found.append(f"{task.task_id}: {answers} answers paid for {task.turns} turns")
    return found
