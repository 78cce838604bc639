"""
One question to a model, in a form that every vendor's protocol maps onto.

A chat line is a ``ChatTurn`` made of parts. What a target vendor cannot do is
refused with the field's name, never dropped in silence.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from contracts.ids import (
    AttemptId,
    CompletionId,
    EmployeeName,
    Name,
    StepId,
    TaskId,
    TenantId,
    Token,
)
from contracts.message import Instant, Json, JsonObject, Message
from contracts.usage import EndState, TokenUsage, UsageSource


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class CacheLife(StrEnum):
    """How long a vendor should keep the prompt up to a marked part."""

    FIVE_MINUTES = "5m"
    ONE_HOUR = "1h"


class TextPart(Message):
    """Plain text."""

    kind: Literal["text"] = "text"
    text: str
    """The text itself."""
    cache: CacheLife | None = None
    """Ask the vendor to cache the prompt up to here."""


class ImagePart(Message):
    """A picture, inline or by URL."""

    kind: Literal["image"] = "image"
    media_type: str | None = None
    """``image/png``; required with ``data``."""
    data: bytes | None = None
    """The bytes, base64 in JSON."""
    url: str | None = None
    """Where the vendor can fetch it."""
    detail: str | None = None
    """OpenAI's ``low``, ``high`` or ``auto``."""
    cache: CacheLife | None = None
    """Ask the vendor to cache the prompt up to here."""


class DocumentPart(Message):
    """A document that the vendor reads itself, such as a PDF."""

    kind: Literal["document"] = "document"
    media_type: str
    """``application/pdf``."""
    data: bytes | None = None
    """The bytes, base64 in JSON."""
    url: str | None = None
    """Where the vendor can fetch it."""
    name: str | None = None
    """Its file name or title."""
    cache: CacheLife | None = None
    """Ask the vendor to cache the prompt up to here."""


class ToolCallPart(Message):
    """The model asks for a tool."""

    kind: Literal["tool-call"] = "tool-call"
    call_id: str
    """The vendor's id; the result names it."""
    name: str
    """The tool."""
    arguments: str
    """JSON text exactly as the model wrote it; it may be invalid."""


class ToolResultPart(Message):
    """What a tool answered."""

    kind: Literal["tool-result"] = "tool-result"
    call_id: str
    """The call that it answers."""
    content: tuple[TextPart | ImagePart, ...]
    """The answer."""
    is_error: bool = False
    """Whether the tool failed; the content says why."""
    cache: CacheLife | None = None
    """Ask the vendor to cache the prompt up to here."""


class ReasoningPart(Message):
    """The model's reasoning, given back unchanged on the next call."""

    kind: Literal["reasoning"] = "reasoning"
    text: str = ""
    """What the vendor shows of it."""
    signature: str | None = None
    """Proof that the vendor wants back."""
    redacted: str | None = None
    """Opaque reasoning that only the vendor can read."""


class RefusalPart(Message):
    """The vendor declined to answer."""

    kind: Literal["refusal"] = "refusal"
    text: str
    """Its words."""


Part = Annotated[
    TextPart
    | ImagePart
    | DocumentPart
    | ToolCallPart
    | ToolResultPart
    | ReasoningPart
    | RefusalPart,
    Field(discriminator="kind"),
]


class ChatTurn(Message):
    """One line of the conversation."""

    role: Role
    """Who speaks."""
    parts: tuple[Part, ...]
    """What is said, in order."""
    name: str | None = None
    """A speaker's name, where the vendor knows one."""


class ToolSpec(Message):
    """A tool that the model may ask for."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Its name."""
    description: str = ""
    """What it does and when to use it."""
    parameters: JsonObject
    """JSON Schema of its arguments."""
    strict: bool | None = None
    """Ask the vendor to hold the arguments to the schema."""
    cache: CacheLife | None = None
    """Ask the vendor to cache the prompt up to here."""


class ToolMode(StrEnum):
    """Whether tools may or must be called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


class ToolChoice(Message):
    """How the model should use tools."""

    mode: ToolMode = ToolMode.AUTO
    """May, must, must not, or this one."""
    name: str | None = None
    """The tool, when ``mode`` is ``named``."""
    parallel: bool | None = None
    """Whether several calls may come at once; None leaves the vendor's default."""


class OutputSchema(Message):
    """The shape that the final answer must have."""

    name: str = Field(default="output", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """A name for the vendor."""
    json_schema: JsonObject
    """JSON Schema 2020-12."""
    strict: bool = True
    """Ask the vendor to enforce it."""


class Sampling(Message):
    """How the next token is chosen; None leaves the vendor's default."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    """0 is nearly deterministic."""
    top_p: float | None = Field(default=None, ge=0, le=1)
    """Nucleus sampling."""
    top_k: int | None = Field(default=None, ge=1)
    """Anthropic's and others' cut-off."""
    seed: int | None = None
    """OpenAI's best-effort repeatability."""
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    """OpenAI's."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    """OpenAI's."""
    logprobs: bool | None = None
    """Ask for log probabilities."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """How many alternatives each."""


class ReasoningBudget(Message):
    """How much the model may think first."""

    effort: str | None = None
    """OpenAI's ``low``, ``medium``, ``high``."""
    tokens_max: int | None = Field(default=None, ge=1)
    """Anthropic's thinking budget."""


class CompletionRequest(Message):
    """Ask a model; the same ``completion_id`` asks for the same answer."""

    completion_id: CompletionId
    """Unique per tenant; an agent's is ``<step id>:<turn>``."""
    tenant: TenantId
    """Who pays."""
    task_id: TaskId | None = None
    """The task, when an employee asks."""
    step_id: StepId | None = None
    """The task's step."""
    employee: EmployeeName | None = None
    """Who asks."""
    user: str | None = Field(default=None, max_length=256)
    """The caller's end user."""
    team: Name | None = None
    """The team that the caller or the employee belongs to; budgets can be its own."""
    api_key_id: Token | None = None
    """The API key that the request came in by."""
    model: str = Field(min_length=1, max_length=200)
    """An alias (``smart``) or ``vendor/model``."""
    turns: tuple[ChatTurn, ...] = Field(min_length=1)
    """The conversation so far."""
    tools: tuple[ToolSpec, ...] = ()
    """Tools that the model may ask for."""
    tool_choice: ToolChoice = ToolChoice()
    """How it may use them."""
    output_schema: OutputSchema | None = None
    """The shape of the answer."""
    output_tokens_max: int | None = Field(default=None, ge=1)
    """A limit on the answer, reasoning included."""
    stop: tuple[str, ...] = Field(default=(), max_length=16)
    """Texts that end the answer."""
    sampling: Sampling = Sampling()
    """How tokens are chosen."""
    reasoning: ReasoningBudget | None = None
    """How much the model may think."""
    service_tier: str | None = None
    """The vendor's tier, asked for."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Passed to the vendor where it takes some."""
    extra: JsonObject = Field(default_factory=dict)
    """Vendor fields that have no canonical form, passed only where supported."""
    drop_unsupported: bool = False
    """Leave out what the vendor has no place for, instead of refusing it."""
    cache_ttl_s: int | None = Field(default=None, ge=1, le=30 * 86_400)
    """Take an equal question's answer if it is not older; None always asks."""
    deltas: bool = True
    """Whether the caller wants the answer in pieces as it comes."""
    deadline: Instant
    """Give up at this time."""


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool-calls"
    CONTENT_FILTER = "content-filter"
    REFUSAL = "refusal"
    PAUSE = "pause"


class AttemptSummary(Message):
    """One vendor call behind a completion."""

    attempt_id: AttemptId
    """Its id on the ledger."""
    vendor: str
    """Who was called."""
    model: str
    """Which model."""
    end_state: EndState
    """How it ended."""
    usage: TokenUsage
    """What it consumed."""
    source: UsageSource
    """Whether the vendor said so."""


class Completion(Message):
    """A model's whole answer, as stored and as often as it is asked for."""

    completion_id: CompletionId
    """The question's id."""
    vendor: str
    """Who answered."""
    model: str
    """The model that the vendor named."""
    parts: tuple[Part, ...]
    """The answer."""
    vectors: tuple[bytes, ...] = ()
    """The answer to an embeddings question; in frames they come before the end."""
    finish_reason: FinishReason
    """Why it ended."""
    usage: TokenUsage
    """Consumed by the attempt that answered."""
    attempts: tuple[AttemptSummary, ...]
    """Every vendor call made for it, the failed ones too."""
    service_tier: str | None = None
    """The tier that the vendor returned."""
    stop_sequence: str | None = None
    """Which of the request's ``stop`` texts ended it, where the vendor says so."""
    logprobs: Json = None
    """The vendor's log probabilities, untouched."""
    dropped: tuple[str, ...] = ()
    """Request fields that the vendor had no place for; see ``drop_unsupported``."""
    is_cached: bool = False
    """Whether an equal question's stored answer was given, at no vendor cost."""
    created_at: Instant
    """When the answer was stored."""
