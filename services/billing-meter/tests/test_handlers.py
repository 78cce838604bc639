from dataclasses import replace
from datetime import timedelta

import pytest
from billing_world import NOW, batch, delivery, deps_on, letters, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing_meter import handlers
from billing_meter.adapters.shelf import FolderShelf
from billing_meter.adapters.tables import MeterTable
from billing_meter.ports import Deps
from contracts.deadletters import DeadLetter
from contracts.ledger import Account, GetTaskCost, ListLedger
from contracts.prices import GetPrices
from contracts.quality import QualitySignals
from contracts.usage import TokenUsage, UsageBatch, UsageSource
from faults import PermanentFault
from messaging.bus import Delivery
from messaging.refusals import Refused
from persistence.inline import InlineDatabase
from pricing import make_book

# 1,000 × $0.15 + 100 × $0.60 per million tokens.
COST = 1000 * 150_000 + 100 * 600_000


async def cost_of(deps: Deps, task_id: str = "task_1") -> tuple[int, int, int]:
    """Return a task's cost, attempts and estimated attempts."""
    request = GetTaskCost(tenant="acme", task_ids=(task_id,))
    cost = (await handlers.task_costs(request, deps)).costs[0]
    return cost.pico_usd, cost.attempts, cost.estimated_attempts


async def imbalance(deps: Deps) -> int:
    """Return the sum of all entries."""
    return await deps.store.read(lambda work: work.imbalance())


async def test_usage_becomes_a_balanced_line(deps: Deps) -> None:
    """One attempt, one line, priced to the pico-dollar, entries summing to zero."""
    await handlers.meter_usage(batch(record("attempt_1")), delivery("m1"), deps)
    assert await cost_of(deps) == (COST, 1, 0)
    assert await imbalance(deps) == 0
    page = await handlers.ledger(ListLedger(tenant="acme"), deps)
    assert [line.pico_usd for line in page.lines] == [COST]


@pytest.mark.parametrize("message_id", ["m1", "m2"])
async def test_a_repeat_is_billed_once(deps: Deps, message_id: str) -> None:
    """At-least-once delivery never becomes at-least-once billing, whatever the id."""
    await handlers.meter_usage(batch(record("attempt_1")), delivery("m1"), deps)
    await handlers.meter_usage(batch(record("attempt_1")), delivery(message_id), deps)
    assert await cost_of(deps) == (COST, 1, 0)


async def test_signals_of_quality_are_no_part_of_what_was_billed(
    deps: Deps, store: InlineDatabase
) -> None:
    """Metered by a meter that does not know them, sent again to one that does."""
    plain = record("attempt_1")
    judged = record("attempt_1", quality=QualitySignals(truncated=True))
    await handlers.meter_usage(batch(plain), delivery("m1"), deps)
    await handlers.meter_usage(batch(judged), delivery("m2"), deps)
    assert await cost_of(deps) == (COST, 1, 0)
    assert await letters(store) == []


async def test_a_higher_revision_reverses_and_reposts(deps: Deps) -> None:
    """What the vendor reports later replaces the estimate, in new entries."""
    estimate = record("attempt_1", source=UsageSource.UNKNOWN)
    real = record("attempt_1", revision=1, usage=TokenUsage(input_tokens=10))
    await handlers.meter_usage(batch(estimate), delivery("m1"), deps)
    assert await cost_of(deps) == (COST, 1, 1)
    await handlers.meter_usage(batch(real), delivery("m2"), deps)
    assert await cost_of(deps) == (10 * 150_000, 1, 0)
    assert await imbalance(deps) == 0


async def test_a_late_lower_revision_changes_nothing(deps: Deps) -> None:
    """Order of arrival does not decide which usage is in force."""
    old = record("attempt_1", usage=TokenUsage(input_tokens=10))
    await handlers.meter_usage(
        batch(record("attempt_1", revision=1)), delivery("m1"), deps
    )
    await handlers.meter_usage(batch(old), delivery("m2"), deps)
    assert await cost_of(deps) == (COST, 1, 0)


async def test_an_unknown_price_goes_to_suspense(deps: Deps) -> None:
    """A model that nobody priced costs the ceiling, on its own account."""
    odd = record("attempt_1", model="unheard-of")
    await handlers.meter_usage(batch(odd), delivery("m1"), deps)
    page = await handlers.ledger(ListLedger(tenant="acme"), deps)
    assert page.lines[0].account is Account.SUSPENSE
    assert page.lines[0].pico_usd == 1000 * 100_000_000 + 100 * 500_000_000


@pytest.mark.parametrize(
    "options",
    [
        {"usage": TokenUsage(input_tokens=10**12)},
        {"occurred_at": NOW + timedelta(days=1)},
        {"batch": True},
        {"tenant": "globex"},
    ],
    ids=["absurd", "future", "variant", "tenant"],
)
async def test_a_bad_record_is_quarantined_alone(
    deps: Deps, options: dict[str, object]
) -> None:
    """The good record beside it is posted; the bad one is kept, with its reason."""
    good, bad = record("attempt_1"), record("attempt_2", **options)
    await handlers.meter_usage(batch(bad, good), delivery("m1"), deps)
    assert await cost_of(deps) == (COST, 1, 0)


async def test_an_id_used_twice_is_quarantined(deps: Deps) -> None:
    """The same key with other content is no correction; the first line stands."""
    other = record("attempt_1", usage=TokenUsage(input_tokens=1))
    await handlers.meter_usage(batch(record("attempt_1")), delivery("m1"), deps)
    await handlers.meter_usage(batch(other), delivery("m2"), deps)
    assert await cost_of(deps) == (COST, 1, 0)


async def test_a_tenant_sees_its_own_ledger_alone(deps: Deps) -> None:
    """Another tenant's lines and costs are as if they were not there."""
    await handlers.meter_usage(batch(record("attempt_1")), delivery("m1"), deps)
    page = await handlers.ledger(ListLedger(tenant="globex"), deps)
    asked = GetTaskCost(tenant="globex", task_ids=("task_1",))
    assert page.lines == ()
    assert (await handlers.task_costs(asked, deps)).costs[0].pico_usd == 0


async def test_pages_hold_every_line_once(deps: Deps) -> None:
    """Walking the cursor neither skips nor repeats."""
    records = [record(f"attempt_{number}") for number in range(7)]
    await handlers.meter_usage(batch(*records), delivery("m1"), deps)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        request = ListLedger(tenant="acme", limit=2, cursor=cursor)
        page = await handlers.ledger(request, deps)
        seen += [line.attempt_id for line in page.lines]
        cursor = page.next_cursor
    assert cursor is None
    assert sorted(seen) == [f"attempt_{number}" for number in range(7)]


async def test_an_unknown_price_book_is_refused(deps: Deps) -> None:
    """A digest that we do not have is not answered with another book."""
    with pytest.raises(Refused, match="no price book"):
        await handlers.prices(GetPrices(digest="00" * 32), deps)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    deliveries=st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 2), st.integers(0, 4), st.booleans()
        ),
        max_size=25,
    )
)
async def test_any_order_of_deliveries_balances(
    deliveries: list[tuple[int, int, int, bool]],
) -> None:
    """Whatever comes, repeated or reordered: the highest revision alone is in force."""
    database = InlineDatabase.create(MeterTable.metadata)
    deps = deps_on(database)
    highest: dict[int, int] = {}
    for attempt, revision, message, _ in deliveries:
        usage = TokenUsage(input_tokens=100 * attempt + revision)
        made = record(f"attempt_{attempt}", revision=revision, usage=usage)
        message_id = f"{attempt}.{revision}.{message}"
        await handlers.meter_usage(batch(made), delivery(message_id), deps)
        highest[attempt] = max(revision, highest.get(attempt, 0))
    expected = sum((100 * a + r) * 150_000 for a, r in highest.items())
    assert await cost_of(deps) == (expected, len(highest), 0)
    assert await imbalance(deps) == 0
    await database.close()


async def replay(letter: DeadLetter, deps: Deps) -> None:
    """Process a dead letter as housekeeping does."""
    message = UsageBatch.model_validate_json(letter.body)
    came = Delivery(letter.subject, letter.message_id, letter.tenant, deliveries=2)
    await handlers.meter_usage(message, came, deps)


async def test_a_replay_that_still_must_not_post_keeps_its_letter(
    deps: Deps, store: InlineDatabase
) -> None:
    """Usage that was replayed too early can be replayed again; none is lost."""
    variant = record("attempt_1", batch=True)
    await handlers.meter_usage(batch(variant), delivery("m1"), deps)
    (letter,) = await letters(store)
    for _ in range(2):
        with pytest.raises(PermanentFault, match="no price") as raised:
            await replay(letter, deps)
        assert raised.value.code == "unknown-price-variant"
    assert await letters(store) == [letter]
    listed = deps.shelf.book.prices
    twin = [
        price.model_copy(update={"batch": True})
        for price in listed
        if price.model == variant.model
    ]
    book = make_book("with batch", [*listed, *twin], deps.shelf.book.ceiling)
    await replay(letter, replace(deps, shelf=FolderShelf(book, None)))
    assert await cost_of(deps) == (COST, 1, 0)


async def test_nobody_reverses_another_tenants_line(
    deps: Deps, store: InlineDatabase
) -> None:
    """An attempt id that another tenant used is quarantined, not corrected."""
    await handlers.meter_usage(batch(record("attempt_1")), delivery("m1"), deps)
    theirs = record("attempt_1", revision=1, tenant="globex")
    other = UsageBatch(batch_id="b", tenant="globex", records=(theirs,))
    await handlers.meter_usage(other, delivery("m2"), deps)
    assert await cost_of(deps) == (COST, 1, 0)
    assert [each.reason for each in await letters(store)] == ["tenant-mismatch"]


async def test_revisions_in_one_batch_are_posted_in_order(deps: Deps) -> None:
    """Both count, whatever their places: the first is posted, then reversed."""
    real = record("attempt_1", revision=1, usage=TokenUsage(input_tokens=10))
    await handlers.meter_usage(batch(real, record("attempt_1")), delivery("m"), deps)
    assert await cost_of(deps) == (10 * 150_000, 1, 0)
    entries = await deps.store.read(lambda work: work.imbalance())
    assert entries == 0


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "²:a", "-1:a", "9" * 30 + ":a", "1:\x00", "1:a b", "1:a\n"]
)
async def test_a_cursor_that_is_none_is_refused(deps: Deps, cursor: str) -> None:
    """What somebody made up is the caller's fault, not the ledger's."""
    with pytest.raises(PermanentFault, match="no ledger cursor"):
        await handlers.ledger(ListLedger(tenant="acme", cursor=cursor), deps)
