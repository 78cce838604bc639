"""How a vendor departs from the protocol that it speaks: data, never code."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from contracts.completions import ToolMode
from contracts.message import Document

REFUSABLE: Final = frozenset(
    {
        "cache",
        "metadata",
        "output_schema",
        "reasoning.effort",
        "reasoning.tokens_max",
        "sampling.frequency_penalty",
        "sampling.logprobs",
        "sampling.presence_penalty",
        "sampling.seed",
        "sampling.temperature",
        "sampling.top_k",
        "sampling.top_logprobs",
        "sampling.top_p",
        "service_tier",
        "stop",
        "tool_choice.parallel",
        "tools.strict",
        "turns.name",
        "user",
    }
)


def _known(field: str) -> str:
    if field not in REFUSABLE:
        known = ", ".join(sorted(REFUSABLE))
        message = f"{field!r} is no field that can be refused: use one of {known}"
        raise ValueError(message)
    return field


RequestField = Annotated[str, AfterValidator(_known)]
"""A field of ``CompletionRequest`` that changes how, not what, is answered."""


class SchemaMode(StrEnum):
    """What a vendor does with the shape that an answer must have."""

    SCHEMA = "json_schema"
    """It holds the answer to it."""
    OBJECT = "json_object"
    """It writes some JSON object; the schema is said in words."""
    NONE = "none"


class Thinking(StrEnum):
    """How a vendor is told to think first."""

    EFFORT = "effort"
    """``reasoning_effort``."""
    BUDGET = "budget"
    """Anthropic's ``thinking`` with a number of tokens."""
    ADAPTIVE = "adaptive"
    """Anthropic's ``thinking`` without one: ``effort`` says how much."""
    SWITCH = "switch"
    """``thinking: {"type": "enabled"}``: on or off."""
    QWEN = "enable_thinking"
    """``enable_thinking`` and ``thinking_budget``."""
    REASONING = "reasoning"
    """OpenRouter's ``reasoning`` with effort or tokens."""
    NONE = "none"


class Quirks(Document):
    """What differs from OpenAI's or Anthropic's own API."""

    refuses: frozenset[RequestField] = frozenset()
    """Request fields that it has no place for."""
    output_limit_field: Literal["max_completion_tokens", "max_tokens"] = (
        "max_completion_tokens"
    )
    """What the limit on an answer is called."""
    system_role: Literal["system", "developer"] = "system"
    """Whose words the system's are."""
    stream_usage: bool = True
    """Whether ``stream_options`` may ask for the usage; without, it comes unasked."""
    schema_mode: SchemaMode = SchemaMode.SCHEMA
    """What it does with an answer's shape."""
    thinking: Thinking | None = None
    """How it is told to think; None is its protocol's own way."""
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    """Where earlier reasoning goes back; None if the vendor takes none back."""
    stops_max: int | None = Field(default=None, ge=1, le=64)
    """The most stop texts; None is its protocol's own number."""
    tool_modes: frozenset[ToolMode] = frozenset(ToolMode)
    """How it can be told to use tools, beside of its own will."""
    cache_marks: bool = False
    """Whether a vendor of OpenAI's protocol takes Anthropic's ``cache_control``."""
    extras: frozenset[str] = frozenset()
    """Fields of its own that ``extra`` may carry."""
    counts_reasoning_apart: bool = False
    """Whether its output count leaves the reasoning out, which its total has."""
