"""From an admitted request to its reply: thought, answered, counted, misreported."""

from dataclasses import dataclass, replace

from sandbox import brain, oddities, tokens
from sandbox.call import CallRecord
from sandbox.conversation import Answer, Conversation, Thought
from sandbox.faults import NO_FAULT, Fault, Oddity
from sandbox.prefix_cache import PrefixCache
from sandbox.thinking import think
from sandbox.wire import Reply, Usage, Wire


@dataclass(frozen=True)
class Asked:
    """An admitted request; ``prompt`` is its number of tokens."""

    wire: Wire
    key: str
    conversation: Conversation
    prompt: int
    fault: Fault | None


def make_reply(asked: Asked, record: CallRecord, cache: PrefixCache) -> Reply:
    """Answer, and note in the record what is spent and what is told."""
    behaviour = asked.fault.behaviour if asked.fault else NO_FAULT
    conversation = asked.conversation
    if behaviour.lowers_tier:
        conversation = replace(conversation, service_tier=asked.wire.lowest_tier)
    answer = brain.answer(conversation)
    if behaviour.oddity:
        answer = oddities.other_answer(answer, behaviour.oddity)
    thought = think(conversation, answer)
    answer, reasoning = _fit(answer, thought, conversation)
    record.usage = _count(asked, answer, reasoning, cache, record.started_at)
    record.service_tier = conversation.service_tier
    record.told = record.usage
    if asked.fault:
        told = oddities.tell(record.usage, behaviour.telling, asked.fault.percent)
        record.told = told
    return Reply(
        request_id=record.request_id,
        created=int(record.started_at),
        conversation=conversation,
        answer=answer,
        usage=record.usage,
        told=record.told,
        thought=thought,
        telling=behaviour.telling,
        endless=behaviour.oddity is Oddity.ENDLESS,
    )


def _fit(
    answer: Answer, thought: Thought | None, conversation: Conversation
) -> tuple[Answer, int]:
    """Let thinking and answer share the tokens that the caller allows."""
    limit = conversation.tokens_max
    reasoning = tokens.count_reasoning(conversation, thought)
    if limit is not None:
        reasoning = min(reasoning, limit)
    stop = conversation.stop
    return tokens.cut_to_length(answer, limit, stop, reasoning), reasoning


def _count(
    asked: Asked, answer: Answer, reasoning: int, cache: PrefixCache, now: float
) -> Usage:
    wire = asked.wire
    cached = cache.look_up(
        asked.key, asked.conversation, now, automatic=wire.caches_by_itself
    )
    return Usage(
        input_tokens=asked.prompt,
        output_tokens=tokens.count_output(answer, reasoning),
        cache_read_tokens=cached.read,
        # Where caching is automatic, writing is not billed.
        cache_write_tokens=0 if wire.caches_by_itself else cached.written,
        cache_write_1h_tokens=0 if wire.caches_by_itself else cached.written_1h,
        reasoning_tokens=reasoning,
    )
