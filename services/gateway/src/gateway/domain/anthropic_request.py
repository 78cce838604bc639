"""
A messages request as the canonical question.

Thinking with a plain budget has a canonical form. What else ``thinking`` can say goes
on as it is in ``extra``, which a vendor of another protocol refuses by name.
"""

from collections.abc import Iterator
from typing import Final

from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    OutputSchema,
    ReasoningBudget,
    Role,
    Sampling,
    TextPart,
)
from contracts.message import JsonObject
from gateway.domain.anthropic_blocks import read_content
from gateway.domain.anthropic_tools import read_schema, read_tool_choice, read_tools
from gateway.domain.fields import Fields, within
from gateway.domain.question import (
    MODEL_CHARACTERS_MAX,
    TOKENS_MAX,
    TURNS_MAX,
    USER_CHARACTERS_MAX,
    Asker,
    Question,
)

STOPS_MAX: Final = 16
ROLES: Final = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
}
EXTRAS: Final = ("cache_control", "inference_geo", "speed")
"""Passed on as they are, to a vendor that has a place for them."""
REFUSED: Final = {"thread": "no conversation is held here: send all of it"}
OFF: Final = "none"
"""The canonical effort of a model that shall not think."""
THINKING_MIN: Final = 1024


def read_anthropic(body: object, asker: Asker) -> Question:
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
    for name, detail in REFUSED.items():
        fields.refuse(name, detail)
    streamed = fields.flag("stream") or False
    tools = read_tools(fields, asker.tools_max)
    extra: JsonObject = {n: fields.json(n) for n in EXTRAS if fields.has(n)}
    effort, schema = _output(fields)
    thinking = _thinking(fields, effort, extra)
    tokens_max = fields.whole("max_tokens", 1, TOKENS_MAX)
    request = CompletionRequest(
        completion_id=asker.completion_id,
        tenant=asker.tenant,
        api_key_id=asker.api_key_id,
        user=_user(fields),
        model=fields.need_text("model", MODEL_CHARACTERS_MAX),
        turns=(*_system(fields), *_turns(fields)),
        tools=tools,
        tool_choice=read_tool_choice(fields, tools),
        output_schema=schema,
        output_tokens_max=fields.need("max_tokens", tokens_max),
        stop=fields.texts("stop_sequences", STOPS_MAX),
        sampling=_sampling(fields),
        reasoning=thinking,
        service_tier=fields.text("service_tier"),
        extra=extra,
        drop_unsupported=asker.drop_unsupported,
        cache_ttl_s=asker.cache_ttl_s,
        deltas=streamed,
        deadline=asker.deadline(streamed=streamed),
    )
    return Question(request, streamed)


def _system(fields: Fields) -> Iterator[ChatTurn]:
    parts = tuple(read_content(fields, "system"))
    if any(not isinstance(part, TextPart) for part in parts):
        raise fields.unfit("system", "must be text")
    if parts:
        yield ChatTurn(role=Role.SYSTEM, parts=parts)


def _turns(fields: Fields) -> Iterator[ChatTurn]:
    is_empty = True
    for message in fields.sections("messages", TURNS_MAX):
        is_empty = False
        yield within(message, _turn)
    if is_empty:
        raise fields.unfit("messages", "give at least one message")


def _turn(message: Fields) -> ChatTurn:
    spoken = message.need("role", message.choice("role", *ROLES))
    parts = tuple(read_content(message, "content"))
    if not parts:
        raise message.unfit("content", "must have at least one block")
    return ChatTurn(role=ROLES[spoken], parts=parts)


def _output(fields: Fields) -> tuple[str | None, OutputSchema | None]:
    """Return effort and schema; ``output_format`` is the schema's older place."""
    config = fields.section("output_config")
    older = fields.section("output_format")
    schema = None if older is None else within(older, read_schema)
    if config is None:
        return None, schema
    effort, wanted = config.text("effort"), config.section("format")
    config.end()
    if wanted is None:
        return effort, schema
    if older is not None:
        raise fields.unfit("output_format", "give output_config.format alone")
    return effort, within(wanted, read_schema)


def _thinking(
    fields: Fields, effort: str | None, extra: JsonObject
) -> ReasoningBudget | None:
    """Return what has a canonical form; anything else goes into ``extra``."""
    plain = None if effort is None else ReasoningBudget(effort=effort)
    given = fields.json_object("thinking")
    if given is None:
        return plain
    thinking = Fields(given, fields.at("thinking"))
    kind = thinking.choice("type", "enabled", "adaptive", "disabled", "between_tools")
    budget = None
    if thinking.need("type", kind) == "enabled":
        budget = thinking.whole("budget_tokens", THINKING_MIN, TOKENS_MAX)
        thinking.need("budget_tokens", budget)
    display = None
    if kind in ("enabled", "adaptive"):
        display = thinking.choice("display", "summarized", "omitted")
    thinking.end()
    if budget is not None and display is None:
        return ReasoningBudget(effort=effort, tokens_max=budget)
    if kind == "disabled" and effort is None:
        return ReasoningBudget(effort=OFF)
    extra["thinking"] = given
    return plain


def _user(fields: Fields) -> str | None:
    metadata = fields.section("metadata")
    if metadata is None:
        return None
    return within(metadata, lambda each: each.text("user_id", USER_CHARACTERS_MAX))


def _sampling(fields: Fields) -> Sampling:
    return Sampling(
        temperature=fields.number("temperature", 0, 1),
        top_p=fields.number("top_p", 0, 1),
        top_k=fields.whole("top_k", 1, TOKENS_MAX),
    )
