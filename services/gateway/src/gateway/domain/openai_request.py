"""
A chat completions request as the canonical question.

What no vendor here could do is refused by name; fields of OpenAI's that have no
canonical form go on as ``extra``, to be refused where the answering vendor's
protocol has no place for them.
"""

from typing import Final

from contracts.completions import (
    CompletionRequest,
    OutputSchema,
    ReasoningBudget,
    Sampling,
)
from contracts.message import JsonObject
from gateway.domain.fields import Fields, within
from gateway.domain.openai_tools import read_format, read_tool_choice, read_tools
from gateway.domain.openai_turns import read_turns
from gateway.domain.question import (
    MODEL_CHARACTERS_MAX,
    TOKENS_MAX,
    USER_CHARACTERS_MAX,
    Asker,
    Question,
)

STOPS_MAX: Final = 4
METADATA_MAX: Final = 16
SEED_MAX: Final = 2**63 - 1
EXTRAS: Final = (
    "logit_bias",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "verbosity",
)
"""Passed on as they are, to a vendor that has a place for them."""
REFUSED: Final = {
    "audio": "audio is not offered",
    "function_call": "use tool_choice",
    "functions": "use tools",
    "moderation": "is not offered",
    "web_search_options": "is not offered: its citations would be lost",
}


def read_openai(body: object, asker: Asker) -> Question:
    """
    Return what is asked.

    Args:
        body: The decoded JSON.
        asker: Who asks.

    Raises:
        Unfit: A field is wrong, unknown, or asks what cannot be done.
    """
    return within(Fields(body), lambda fields: _question(fields, asker))


def _question(fields: Fields, asker: Asker) -> Question:
    streamed = fields.flag("stream") or False
    wants_usage = _stream_options(fields, streamed=streamed)
    _refuse(fields)
    tools = read_tools(fields, asker.tools_max)
    wanted, extra = read_format(fields), _extra(fields)
    if isinstance(wanted, dict):
        extra["response_format"] = wanted
    effort = fields.text("reasoning_effort")
    request = CompletionRequest(
        completion_id=asker.completion_id,
        tenant=asker.tenant,
        api_key_id=asker.api_key_id,
        user=fields.text("user", USER_CHARACTERS_MAX),
        model=fields.need_text("model", MODEL_CHARACTERS_MAX),
        turns=read_turns(fields),
        tools=tools,
        tool_choice=read_tool_choice(fields, tools),
        output_schema=wanted if isinstance(wanted, OutputSchema) else None,
        output_tokens_max=_tokens_max(fields),
        stop=_stop(fields),
        sampling=_sampling(fields),
        reasoning=None if effort is None else ReasoningBudget(effort=effort),
        service_tier=fields.text("service_tier"),
        metadata=_metadata(fields),
        extra=extra,
        drop_unsupported=asker.drop_unsupported,
        cache_ttl_s=asker.cache_ttl_s,
        deltas=streamed,
        deadline=asker.deadline(streamed=streamed),
    )
    return Question(request, streamed, wants_usage)


def _stream_options(fields: Fields, *, streamed: bool) -> bool:
    """Return whether the counts shall come at the end of a stream."""
    if not streamed:
        fields.refuse("stream_options", "is only allowed when 'stream' is true")
    options = fields.section("stream_options")
    if options is None:
        return False
    wants_usage = options.flag("include_usage") or False
    if options.flag("include_obfuscation"):
        raise options.unfit("include_obfuscation", "is not offered: leave it out")
    options.end()
    return wants_usage


def _refuse(fields: Fields) -> None:
    for name, detail in REFUSED.items():
        fields.refuse(name, detail)
    if (fields.whole("n", 1, 128) or 1) != 1:
        raise fields.unfit("n", "one answer at a time: ask several times")
    if fields.texts("modalities", 8) not in {(), ("text",)}:
        raise fields.unfit("modalities", "only ['text'] is offered")


def _extra(fields: Fields) -> JsonObject:
    extra = {name: fields.json(name) for name in EXTRAS if fields.has(name)}
    if fields.flag("store"):  # false is what happens without it
        extra["store"] = True
    return extra


def _tokens_max(fields: Fields) -> int | None:
    older = fields.whole("max_tokens", 1, TOKENS_MAX)
    newer = fields.whole("max_completion_tokens", 1, TOKENS_MAX)
    if older is not None and newer is not None and older != newer:
        raise fields.unfit("max_tokens", "differs from max_completion_tokens: give one")
    return newer if newer is not None else older


def _stop(fields: Fields) -> tuple[str, ...]:
    if isinstance(fields.peek("stop"), str):
        return (fields.need_text("stop"),)
    return fields.texts("stop", STOPS_MAX)


def _sampling(fields: Fields) -> Sampling:
    return Sampling(
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        seed=fields.whole("seed", -SEED_MAX, SEED_MAX),
        frequency_penalty=fields.number("frequency_penalty", -2, 2),
        presence_penalty=fields.number("presence_penalty", -2, 2),
        logprobs=fields.flag("logprobs"),
        top_logprobs=fields.whole("top_logprobs", 0, 20),
    )


def _metadata(fields: Fields) -> dict[str, str]:
    given = fields.json_object("metadata") or {}
    if len(given) > METADATA_MAX:
        raise fields.unfit("metadata", f"has at most {METADATA_MAX} keys")
    found = {name: each for name, each in given.items() if isinstance(each, str)}
    if len(found) != len(given):
        raise fields.unfit("metadata", "its values must be strings")
    return found
