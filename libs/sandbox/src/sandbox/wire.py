"""What a protocol must be able to do: the port between the server and a wire."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sandbox import tokens
from sandbox.conversation import Answer, Conversation, Thought
from sandbox.limits import Allowance
from sandbox.payload import Failure, Json, JsonObject


class Telling(StrEnum):
    """How the usage is told to the client; the ledger keeps the truth."""

    TRUE = "true"
    MISSING = "missing"
    ZERO = "zero"
    WRONG = "wrong"
    TWICE = "twice"
    LOOKALIKE = "lookalike"
    NULL_CHOICES = "null_choices"


class Stage(StrEnum):
    """Whether an event comes before, with or after the answer's content."""

    OPENING = "opening"
    CONTENT = "content"
    ENDING = "ending"


@dataclass(frozen=True)
class Usage:
    """
    Token counts of one call, as billed.

    ``input_tokens`` is the whole prompt; ``cache_read`` and ``cache_write`` are
    parts of it, ``cache_write_1h`` is a part of the latter; ``reasoning_tokens`` is
    a part of ``output_tokens``.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Reply:
    """
    All that a protocol needs to write an answer down.

    ``told`` is the usage to report, None for none; it is the true one except where a
    fault lies. ``endless`` lets the answer's text go on for ever.
    """

    request_id: str
    created: int
    conversation: Conversation
    answer: Answer
    usage: Usage
    told: Usage | None
    thought: Thought | None = None
    telling: Telling = Telling.TRUE
    endless: bool = False

    def pieces(self) -> Iterator[tokens.Piece]:
        """Split thought and answer for streaming."""
        reasoning = self.usage.reasoning_tokens
        return tokens.pieces(self.answer, reasoning, self.thought, endless=self.endless)

    @property
    def hidden_tokens(self) -> int:
        """The reasoning tokens that are spent before the first piece is seen."""
        return 0 if self.thought else self.usage.reasoning_tokens


@dataclass(frozen=True)
class Event:
    """
    One server-sent event.

    ``output_tokens`` counts what was generated up to and with it;
    ``reports_usage`` says that the final usage is in it.
    """

    data: bytes
    output_tokens: int
    stage: Stage = Stage.CONTENT
    reports_usage: bool = False


class Wire(Protocol):
    """A vendor's protocol: requests in, bodies, events, errors and headers out."""

    @property
    def name(self) -> str:
        """The protocol's name in ledger and fault rules."""
        ...

    @property
    def models(self) -> tuple[str, ...]:
        """The models on offer."""
        ...

    @property
    def lowest_tier(self) -> str:
        """The service tier of who asks for none."""
        ...

    @property
    def caches_by_itself(self) -> bool:
        """Prefixes are cached without being marked, and writing them is free."""
        ...

    def too_long(self, prompt_tokens: int) -> Failure | None:
        """Refuse a prompt that the context window does not hold, in its words."""
        ...

    def key_of(self, headers: Mapping[str, str]) -> str:
        """Return the API key, empty when there is none."""
        ...

    def parse(self, body: JsonObject, headers: Mapping[str, str]) -> Conversation:
        """Read a request; RequestRefused when it breaks the protocol."""
        ...

    def render(self, reply: Reply) -> JsonObject:
        """Write the answer as one body, usage included."""
        ...

    def stream(self, reply: Reply) -> Iterator[Event]:
        """Write the answer as server-sent events."""
        ...

    def stream_failure(self, failure: Failure, request_id: str) -> bytes:
        """Write an error as an event inside a stream that began with 200."""
        ...

    def render_failure(
        self, failure: Failure, request_id: str
    ) -> tuple[int, JsonObject]:
        """Return the status and the error envelope."""
        ...

    def headers(self, request_id: str, allowance: Allowance) -> dict[str, str]:
        """Return the request id and rate-limit headers."""
        ...

    def model_list(self) -> Json:
        """Write the list of models."""
        ...

    def model_entry(self, model: str) -> JsonObject:
        """Write one model of the list."""
        ...
