"""What a call may cost: a bound for hard budgets, the usual for soft ones."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ai_broker.domain import budget, quote
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.quote import FLOOR_TOKENS, Quote
from contracts.completions import (
    CacheLife,
    ChatTurn,
    CompletionRequest,
    ReasoningBudget,
    Role,
    TextPart,
    ToolSpec,
)
from contracts.usage import UsageRecord

NOW = datetime(2026, 11, 26, tzinfo=UTC)
CANDIDATE = Candidate("first", "model-1", 2_000)
PRICES = {
    "input_tokens": 3,
    "cache_write_1h_tokens": 6,
    "output_tokens": 15,
    "reasoning_tokens": 20,
}


def rate(record: UsageRecord) -> int:
    """Price a record: an hour's cache is twice the input, reasoning the dearest."""
    parts = record.usage.parts()
    return sum(PRICES.get(part, 0) * count for part, count in parts.items())


def request(text: str = "Greet me", **changes: object) -> CompletionRequest:
    """Ask something."""
    asked: dict[str, object] = {
        "completion_id": "c1",
        "tenant": "acme",
        "model": "first/model-1",
        "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text=text),)),),
        "deadline": NOW,
    }
    return CompletionRequest.model_validate(asked | changes)


@given(text=st.text(max_size=300))
def test_a_bound_covers_a_token_for_every_byte(text: str) -> None:
    """Whatever the script, no tokenizer of bytes counts more than the bound."""
    asked = request(text, output_tokens_max=10)
    bound = quote.bounded(asked, CANDIDATE, rate, NOW)
    tokens = len(text.encode("utf-8", "replace"))
    assert bound.input_pico_usd >= tokens * PRICES["input_tokens"]
    usual = quote.usual(asked, CANDIDATE, rate, NOW, ())
    assert usual.input_pico_usd <= bound.input_pico_usd


def test_an_answer_is_bounded_by_its_limit_at_the_dearest_price() -> None:
    """Reasoning counts into the answer's limit, and may cost more than words."""
    bound = quote.bounded(request(output_tokens_max=500), CANDIDATE, rate, NOW)
    assert bound.whole - bound.input_pico_usd == 500 * PRICES["reasoning_tokens"]
    unlimited = quote.bounded(request(), CANDIDATE, rate, NOW)
    assert unlimited.tokens == CANDIDATE.output_tokens_default


def test_a_prompt_that_is_written_to_a_cache_is_quoted_so() -> None:
    """Only a marked prompt can cost what writing costs."""
    marked = ChatTurn(
        role=Role.USER, parts=(TextPart(text="Greet me", cache=CacheLife.ONE_HOUR),)
    )
    plain = quote.bounded(request(), CANDIDATE, rate, NOW)
    written = quote.bounded(request(turns=(marked,)), CANDIDATE, rate, NOW)
    assert written.input_pico_usd == 2 * plain.input_pico_usd


def test_tools_cost_what_vendors_add_for_them() -> None:
    """The prompt that a vendor writes around tools is paid for too."""
    tool = ToolSpec(name="add", parameters={"type": "object"})
    plain = quote.bounded(request(), CANDIDATE, rate, NOW)
    tooled = quote.bounded(request(tools=(tool,)), CANDIDATE, rate, NOW)
    assert tooled.input_pico_usd > plain.input_pico_usd + 3_000


def test_thinking_is_never_cut_off() -> None:
    """A limit below the thinking that was asked for would be refused by the vendor."""
    thinks = request(output_tokens_max=9_000, reasoning=ReasoningBudget(tokens_max=800))
    assert quote.bounded(thinks, CANDIDATE, rate, NOW).floor == 800 + FLOOR_TOKENS
    short = request(output_tokens_max=40)
    assert quote.bounded(short, CANDIDATE, rate, NOW).floor == 40


@given(
    base=st.integers(0, 10_000),
    token=st.integers(1, 1_000),
    tokens=st.integers(1, 10_000),
    floor=st.integers(1, 10_000),
    money=st.integers(0, 10**8),
)
def test_an_answer_is_cut_to_what_the_money_affords(
    base: int, token: int, tokens: int, floor: int, money: int
) -> None:
    """The longest that is affordable; never below the floor, never above the limit."""
    asked = Quote(base, token, tokens, min(floor, tokens), is_bound=True)
    fit = asked.fit(money)
    if fit is None:
        assert money < asked.least
        return
    assert asked.floor <= fit <= tokens
    assert asked.cost(fit) <= money
    assert fit == tokens or asked.cost(fit + 1) > money


def test_the_usual_answer_is_what_95_of_100_keep_to() -> None:
    """Soft budgets reserve by experience, and by the limit before there is any."""
    lengths = tuple(range(1, 101))
    asked = request(output_tokens_max=1_000)
    assert quote.usual(asked, CANDIDATE, rate, NOW, lengths).tokens == 96
    assert quote.usual(asked, CANDIDATE, rate, NOW, (5_000,)).tokens == 1_000
    assert quote.usual(asked, CANDIDATE, rate, NOW, ()).tokens == 1_000


def test_a_request_is_limited_to_what_is_reserved_for() -> None:
    """Without a limit of its own it gets one, so that the bound holds."""
    assert budget.fitted(request(), 300).output_tokens_max == 300
    same = request(output_tokens_max=300)
    assert budget.fitted(same, 300) is same
