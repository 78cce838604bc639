"""The store on SQLite and PostgreSQL: migrations, claims, fences, owed messages."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from ai_broker.adapters.answer_cache import SqlAnswerCache
from ai_broker.adapters.credentials import SqlCredentials
from ai_broker.adapters.sql import SqlStore
from ai_broker.adapters.tables import CACHED_ANSWER, SHARED, BrokerTable
from ai_broker.domain import attempt as attempts
from ai_broker.domain import completion as completions
from ai_broker.domain.attempt import Attempt
from ai_broker.domain.cache import Kept
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Claim, Granted, Held, State
from ai_broker.domain.credential import Credential, Sealed
from ai_broker.ports.store import Work
from contracts.completions import (
    ChatTurn,
    Completion,
    CompletionRequest,
    FinishReason,
    Role,
    TextPart,
)
from contracts.frames import Failed
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.usage import TokenUsage, UsageBatch
from determinism import Bell, SystemClock
from persistence.database import Database
from persistence.migrations import differences

NOW = datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
LEASE = timedelta(seconds=20)
REQUEST = CompletionRequest(
    completion_id="step_1:0",
    tenant="acme",
    task_id="task_1",
    model="smart",
    turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="Hi"),)),),
    deadline=NOW + timedelta(seconds=60),
)
HELD = Held("acme", "step_1:0", "d", State.RUNNING, "a", 1, NOW + LEASE, NOW)


def open_attempt(number: int = 1) -> Attempt:
    """Give a dispatched attempt."""
    record = attempts.dispatch(
        REQUEST,
        Candidate("openai", "model-1"),
        attempt_id=f"attempt_{number}",
        number=number,
        assumed=TokenUsage(input_tokens=3, output_tokens=9),
        now=NOW,
    )
    record = record.model_copy(update={"raw_usage": {"x": None, "y": [1, None]}})
    return Attempt(record, fence=1, deadline=REQUEST.deadline)


def store_on(database: Database, woken: list[str]) -> SqlStore:
    """Give the broker's store on a database."""
    return SqlStore(database, woken.extend, SystemClock(), Bell())


async def test_migrations_build_what_the_tables_declare(database: Database) -> None:
    """A migrated store has exactly the declared tables."""
    found = await database.read(lambda conn: differences(conn, BrokerTable.metadata))
    assert found == []


async def test_everything_comes_back_as_it_went_in(database: Database) -> None:
    """Rows keep every field of a completion and of its attempts."""
    store = store_on(database, [])
    answer = Completion(
        completion_id="step_1:0",
        vendor="openai",
        model="model-1",
        parts=(TextPart(text="Hi \u2028 \x00 there"),),
        finish_reason=FinishReason.STOP,
        usage=TokenUsage(),
        attempts=(attempts.summary(open_attempt()),),
        logprobs={"content": [{"top": None}]},
        created_at=NOW,
    )
    failed = Failed(error=ErrorEnvelope(problem=problem(Code.CANCELLED, "x")))

    def write(work: Work) -> None:
        assert work.completion("acme", "step_1:0") is None
        assert work.add_completion(HELD)
        work.add_attempt(open_attempt(2))
        work.add_attempt(open_attempt(1))

    await store.run(write)
    for changed in (
        completions.failed(HELD, failed, NOW),
        completions.answered(HELD, answer, NOW),
    ):
        await store.run(lambda work, changed=changed: work.save_completion(changed))
        found = await store.read(lambda work: work.completion("acme", "step_1:0"))
        assert found == changed
    assert await store.read(lambda work: work.completion("globex", "step_1:0")) is None
    listed = await store.read(lambda work: work.attempts("acme", "step_1:0"))
    assert list(listed) == [open_attempt(1), open_attempt(2)]
    await store.run(
        lambda work: work.save_attempt(attempts.give_up(open_attempt(1), NOW))
    )
    listed = await store.read(lambda work: work.attempts("acme", "step_1:0"))
    assert [each.settled for each in listed] == [True, False]


async def test_of_many_claims_at_once_one_is_granted(database: Database) -> None:
    """Replicas that ask in the same moment agree on who answers."""
    store = store_on(database, [])
    digest = completions.digest_of(REQUEST)

    async def contend(owner: str) -> Claim:
        def transaction(work: Work) -> Claim:
            found = work.completion("acme", "step_1:0")
            verdict = completions.claim(found, REQUEST, digest, owner, NOW, LEASE)
            if isinstance(verdict, Granted) and not work.add_completion(verdict.held):
                found = work.completion("acme", "step_1:0")
                return completions.claim(found, REQUEST, digest, owner, NOW, LEASE)
            return verdict

        return await store.run(transaction)

    verdicts = await asyncio.gather(*(contend(f"replica-{n}") for n in range(8)))
    assert sum(isinstance(each, Granted) for each in verdicts) == 1


async def test_a_stale_claim_is_not_renewed(database: Database) -> None:
    """Only the current fence of a running completion moves its lease."""
    store = store_on(database, [])
    later = NOW + timedelta(seconds=99)
    await store.run(lambda work: work.add_completion(replace(HELD, fence=2)))
    assert not await store.run(lambda work: work.renew(HELD, later))
    held = replace(HELD, fence=2)
    assert await store.run(lambda work: work.renew(held, later))
    found = await store.read(lambda work: work.completion("acme", "step_1:0"))
    assert found is not None
    assert found.until == later
    await store.run(
        lambda work: work.save_completion(replace(held, state=State.FAILED))
    )
    assert not await store.run(lambda work: work.renew(held, later))


async def test_only_the_claim_in_force_ends_its_completion(database: Database) -> None:
    """A stale fence changes nothing, and what has ended is not ended again."""
    store = store_on(database, [])
    failed = Failed(error=ErrorEnvelope(problem=problem(Code.CANCELLED, "x")))
    held = replace(HELD, fence=2)
    await store.run(lambda work: work.add_completion(held))
    stale = completions.failed(HELD, failed, NOW)
    assert not await store.run(lambda work: work.end_completion(stale))
    assert await store.read(lambda work: work.completion("acme", "step_1:0")) == held
    ended = completions.failed(held, failed, NOW)
    assert await store.run(lambda work: work.end_completion(ended))
    assert await store.read(lambda work: work.completion("acme", "step_1:0")) == ended
    assert not await store.run(lambda work: work.end_completion(ended))


async def test_an_open_attempt_is_settled_once(database: Database) -> None:
    """Whoever comes second is told so, and the first one's record stays."""
    store = store_on(database, [])
    opened = open_attempt()
    await store.run(lambda work: work.add_attempt(opened))
    first = attempts.give_up(opened, NOW)
    second = attempts.give_up(opened, NOW + timedelta(seconds=1))
    assert await store.run(lambda work: work.settle_attempt(first))
    assert not await store.run(lambda work: work.settle_attempt(second))
    (found,) = await store.read(lambda work: work.attempts("acme", "step_1:0"))
    assert found == first


async def test_only_abandoned_attempts_are_overdue(database: Database) -> None:
    """A live claim, an early deadline and a settled attempt are left alone."""
    store = store_on(database, [])

    def write(work: Work) -> None:
        work.add_completion(HELD)
        work.add_attempt(open_attempt())

    await store.run(write)
    deadline, until = REQUEST.deadline, HELD.until
    second = timedelta(seconds=1)
    for before, now, count in (
        (deadline, until + second, 0),
        (deadline + second, until, 0),
        (deadline + second, until + second, 1),
    ):
        found = await store.read(
            lambda work, before=before, now=now: work.overdue(before, now, 10)
        )
        assert len(found) == count
    await store.run(
        lambda work: work.save_attempt(attempts.give_up(open_attempt(), NOW))
    )
    later = NOW + timedelta(days=1)
    assert not await store.read(lambda work: work.overdue(later, later, 10))


async def test_records_are_told_once_and_none_is_forgotten(database: Database) -> None:
    """Settled records wait for the ledger, are taken once, and outlive pruning."""
    store = store_on(database, [])
    opened = open_attempt()
    await store.run(lambda work: work.add_completion(HELD))
    await store.run(lambda work: work.add_attempt(opened))
    assert await store.run(lambda work: work.take_untold(10)) == []
    lost = attempts.give_up(opened, NOW)
    await store.run(lambda work: work.save_attempt(lost))
    late = NOW + timedelta(days=99)
    assert await store.run(lambda work: work.prune(late, 10)) == 0
    (told,) = await store.run(lambda work: work.take_untold(10))
    assert told.model_copy(update={"trace": None}) == lost.record
    assert await store.run(lambda work: work.take_untold(10)) == []
    assert await store.run(lambda work: work.prune(late, 10)) == 1


async def test_owed_messages_leave_after_the_commit(database: Database) -> None:
    """A committed record is in the outbox and announced; a failed one is neither."""
    woken: list[str] = []
    store = store_on(database, woken)
    (owed,) = attempts.owe_usage([attempts.give_up(open_attempt(), NOW).record])

    def breaks(work: Work) -> None:
        work.owe(owed)
        raise KeyError("planned")

    try:
        await store.run(breaks)
    except KeyError:
        assert woken == []
    await store.run(lambda work: work.owe(owed))
    assert woken == [owed.message_id]
    (row,) = await database.read(lambda conn: conn.execute(select(SHARED.outbox)).all())
    assert row.address == "work.billing-meter.usage.acme"
    batch = UsageBatch.model_validate_json(row.body)
    assert batch.records[0].raw_usage == {"x": None, "y": [1, None]}


async def test_an_equal_question_finds_the_last_answer(database: Database) -> None:
    """Found by tenant, question and age; the latest counts; pruned, it is gone."""
    store, cache = store_on(database, []), SqlAnswerCache(database)
    candidate = Candidate("openai", "model-1")

    def answered(name: str, at: datetime) -> Completion:
        return Completion(
            completion_id=name,
            vendor="openai",
            model="model-1-2026",
            parts=(TextPart(text=name),),
            finish_reason=FinishReason.STOP,
            usage=TokenUsage(),
            attempts=(),
            created_at=at,
        )

    def keep(name: str, at: datetime) -> Callable[[Work], None]:
        def write(work: Work) -> None:
            held = replace(HELD, completion_id=name)
            answer = answered(name, at)
            work.add_completion(completions.answered(held, answer, at))
            work.keep_answer(REQUEST, answer, candidate)

        return write

    tick = timedelta(microseconds=1)
    assert await cache.find(REQUEST, NOW) is None
    await store.run(keep("old", NOW))
    assert await cache.find(REQUEST, NOW) == Kept(
        answered("old", NOW), ("openai", "model-1")
    )
    assert await cache.find(REQUEST, NOW + tick) is None
    await store.run(keep("new", NOW + LEASE))
    found = await cache.find(REQUEST, NOW)
    assert found is not None
    assert found.answer.completion_id == "new"
    globex = REQUEST.model_copy(update={"tenant": "globex"})
    assert await cache.find(globex, NOW) is None
    await store.run(lambda work: work.prune(NOW + tick, 10))
    assert await cache.find(REQUEST, NOW) == found, "only the old one was pruned"
    await store.run(lambda work: work.prune(NOW + LEASE + tick, 10))
    assert await cache.find(REQUEST, NOW) is None
    left = await database.read(lambda conn: conn.execute(select(CACHED_ANSWER)).all())
    assert left == []


async def test_credentials_are_put_replaced_resealed_and_removed(
    database: Database,
) -> None:
    """One key per tenant and vendor; a seal is replaced only while it is unchanged."""
    store = SqlCredentials(database)
    first = Credential("acme", "openai", Sealed("k1", b"one"), "f", "last", NOW)
    second = replace(first, sealed=Sealed("k1", b"two"), last4=None)
    other = replace(first, tenant="globex")
    for each in (first, other, second):
        await store.put(each)
    assert list(await store.of("acme")) == [second]
    assert list(await store.sealed_otherwise("k2", ("", ""), 9)) == [second, other]
    assert list(await store.sealed_otherwise("k2", ("acme", "openai"), 9)) == [other]
    assert list(await store.sealed_otherwise("k2", ("", ""), 1)) == [second]
    assert list(await store.sealed_otherwise("k1", ("", ""), 9)) == []
    new = Sealed("k2", b"new")
    assert await store.reseal([(first, new), (other, new)]) == 1
    assert list(await store.of("acme")) == [second]
    assert list(await store.of("globex")) == [replace(other, sealed=new)]
    assert await store.remove("acme", "openai")
    assert not await store.remove("acme", "openai")
    assert list(await store.of("acme")) == []
