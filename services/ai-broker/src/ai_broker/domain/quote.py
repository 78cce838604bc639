"""
What a call may cost, before it is made.

A hard budget must hold whatever the vendor will count, so its quote is a bound and no
estimate: every tokenizer in use is one of bytes, so a text has at most as many tokens
as bytes; a prompt that writes to a cache is quoted at the dearest way to write it. A
soft budget is quoted at what such calls usually cost. Pictures and documents are
estimated in both, as ``estimation`` says: no bound of theirs is known before the call.

For one input a cost is linear in the answer's length, so an answer can be cut to what
is affordable without asking the price book again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ai_broker.domain import attempt as attempts
from ai_broker.domain import estimation
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.embedding import EmbeddingQuestion
from contracts.completions import CompletionRequest
from contracts.usage import TokenUsage, UsageRecord

Rate = Callable[[UsageRecord], int]
"""What a usage record costs, in pico-USD; at a ceiling where no price is known."""

FLOOR_TOKENS: Final = 256
"""An answer shorter than this is of no use to anybody."""
TOOLS_TOKENS: Final = 1_000
"""What vendors add to a prompt with tools, at most."""
PERCENTILE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Quote:
    """A call's price by the length of its answer."""

    input_pico_usd: int
    token_pico_usd: int
    """Per token of the answer."""
    tokens: int
    """The longest answer that is reserved for."""
    floor: int
    """The shortest answer that is worth a call."""
    is_bound: bool
    """Whether the call cannot cost more, if its answer's limit is sent along."""

    def cost(self, tokens: int) -> int:
        """Return the cost with an answer of this length."""
        return self.input_pico_usd + tokens * self.token_pico_usd

    @property
    def whole(self) -> int:
        """What the call costs with its longest answer."""
        return self.cost(self.tokens)

    @property
    def least(self) -> int:
        """What the call costs with its shortest answer."""
        return self.cost(self.floor)

    def fit(self, pico_usd: int) -> int | None:
        """Return the longest answer that the money affords; None below the floor."""
        if pico_usd < self.least:
            return None
        if pico_usd >= self.whole:
            return self.tokens
        return (pico_usd - self.input_pico_usd) // self.token_pico_usd


def bounded(
    request: CompletionRequest, candidate: Candidate, rate: Rate, now: datetime
) -> Quote:
    """Return the quote that a call cannot exceed."""
    longest = request.output_tokens_max or candidate.output_tokens_default
    thinks = 0 if request.reasoning is None else request.reasoning.tokens_max or 0
    inputs = estimation.input_tokens_at_most(request)
    inputs += TOOLS_TOKENS if request.tools else 0
    if isinstance(request, EmbeddingQuestion):
        return _vectors(request, candidate, rate, now, inputs)
    floor = min(thinks + FLOOR_TOKENS, longest)
    input_pico_usd, token = _prices(request, candidate, rate, now, inputs)
    return Quote(input_pico_usd, token, longest, floor, is_bound=True)


def usual(
    request: CompletionRequest,
    candidate: Candidate,
    rate: Rate,
    now: datetime,
    lengths: Sequence[int],
) -> Quote:
    """
    Return the quote that a call usually keeps to.

    Args:
        request: What is asked.
        candidate: Who may answer.
        rate: The price book.
        now: The time that prices are looked up for.
        lengths: Of this model's past answers, in tokens; may be empty.
    """
    longest = request.output_tokens_max or candidate.output_tokens_default
    expected = min(percentile(lengths), longest) if lengths else longest
    inputs = estimation.input_tokens(request)
    if isinstance(request, EmbeddingQuestion):
        return _vectors(request, candidate, rate, now, inputs)
    input_pico_usd, token = _prices(request, candidate, rate, now, inputs)
    return Quote(input_pico_usd, token, expected, expected, is_bound=False)


def percentile(lengths: Sequence[int]) -> int:
    """Return the length that 95 of 100 do not exceed; at least one is needed."""
    ordered = sorted(lengths)
    return ordered[min(len(ordered) - 1, int(len(ordered) * PERCENTILE))]


def _vectors(
    request: EmbeddingQuestion,
    candidate: Candidate,
    rate: Rate,
    now: datetime,
    inputs: int,
) -> Quote:
    """Return the quote of vectors: their answer has no tokens, and no limit."""
    input_pico_usd, _ = _prices(request, candidate, rate, now, inputs)
    return Quote(input_pico_usd, 0, 0, 0, is_bound=False)


def _prices(
    request: CompletionRequest,
    candidate: Candidate,
    rate: Rate,
    now: datetime,
    inputs: int,
) -> tuple[int, int]:
    """Return the price of the input and of a token of the answer, at their dearest."""
    record = attempts.dispatch(
        request,
        candidate,
        attempt_id="quote",
        number=1,
        assumed=TokenUsage(),
        now=now,
    ).model_copy(update={"service_tier": request.service_tier})

    def priced(**counts: int) -> int:
        return rate(record.model_copy(update={"usage": TokenUsage(**counts)}))

    parts = ["input_tokens"]
    if _marks_a_cache(request):
        parts += ["cache_write_5m_tokens", "cache_write_1h_tokens"]
    dearest = max(parts, key=lambda part: priced(**{part: inputs}))
    whole_input = priced(**{dearest: inputs})
    token = max(
        priced(**{dearest: inputs, part: 1}) - whole_input
        for part in ("output_tokens", "reasoning_tokens")
    )
    return whole_input, max(token, 0)


def _marks_a_cache(request: CompletionRequest) -> bool:
    marked = [getattr(part, "cache", None) for t in request.turns for part in t.parts]
    return any(marked) or any(tool.cache for tool in request.tools)
