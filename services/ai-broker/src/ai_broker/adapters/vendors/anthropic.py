"""Anthropic and whoever speaks its messages API, by the official SDK."""

from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel, ValidationError

from ai_broker.adapters.vendors import sse
from ai_broker.adapters.vendors.anthropic_request import body_of
from ai_broker.adapters.vendors.sdk import (
    Lazy,
    Patience,
    drain,
    lower,
    malformed,
    reported,
    translated,
)
from ai_broker.domain.catalogue import Candidate, Endpoint
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Prepared,
    Reasoning,
    Started,
    Text,
    ToolCallPiece,
    UsageSeen,
    VendorEvent,
)
from contracts.completions import CompletionRequest, FinishReason
from contracts.message import JsonObject
from contracts.usage import TokenUsage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

STOP: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
}
STATUS: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class _Head(BaseModel):
    model: str = ""
    usage: JsonObject | None = None


class _Block(BaseModel):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: JsonObject | None = None


class _StopDetails(BaseModel):
    explanation: str | None = None


class _Delta(BaseModel):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Error(BaseModel):
    type: str = "error"
    message: str = ""


class _Event(BaseModel):
    """What is read of an event; other types and fields are let pass."""

    type: str
    index: int = 0
    message: _Head | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: JsonObject | None = None
    error: _Error | None = None


class _Creation(BaseModel):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(BaseModel):
    thinking_tokens: int | None = None


class _Usage(BaseModel):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Creation | None = None
    output_tokens_details: _OutputDetails | None = None
    service_tier: str | None = None


class AnthropicVendor:
    """
    A vendor that speaks the messages API.

    Args:
        endpoint: Where it is, and its key.
        patience: Limits of single steps.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        self._name = endpoint.entry.name
        self._endpoint = endpoint
        self._patience = patience
        self._client = Lazy("anthropic", self._make)

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return the request body; PermanentFault names what has no place in it."""
        return Prepared(body_of(request, candidate))

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Call once and yield the answer as it comes."""
        client = await self._client.get()
        import httpx2  # noqa: PLC0415 -- comes with the SDK, and as lazily

        timeout = httpx2.Timeout(
            min(self._patience.idle_s, timeout_s), connect=self._patience.connect_s
        )
        stream = _Stream(self._name)
        # Any: the body was built by its own rules; the SDK only carries it.
        fields = cast("Any", body)
        with translated(self._name, "anthropic"):
            async with client.messages.with_streaming_response.create(
                **fields,
                stream=True,
                extra_headers={"x-client-request-id": attempt_id},
                timeout=timeout,
            ) as response:
                headers = lower(response.headers)
                request_id = headers.get("request-id")
                yield Started(response.status_code, request_id, headers)
                events = sse.events(response.iter_bytes())
                async for event in events:
                    heard = tuple(stream.feed(event.data))
                    if stream.ended:
                        await drain(events)
                    for each in heard:
                        yield each
                    if stream.ended:
                        return

    async def close(self) -> None:
        """Close the connections."""
        if self._client.made is not None:
            await self._client.made.close()

    def _make(self) -> "AsyncAnthropic":
        from anthropic import AsyncAnthropic  # noqa: PLC0415 -- a second of CPU

        return AsyncAnthropic(
            api_key=self._endpoint.key,
            base_url=self._endpoint.base_url,
            max_retries=0,
        )


class _Stream:
    """Reads events; numbers parts in the order in which they first appear."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._places: dict[int, int] = {}
        self._calls: dict[int, bool] = {}
        self._model = ""
        self._usage: JsonObject = {}
        self._stop: str | None = None
        self.ended = False

    def feed(self, data: bytes) -> Iterator[VendorEvent]:
        """Read one event."""
        try:
            event = _Event.model_validate_json(data)
        except ValidationError as cause:
            raise malformed(self._vendor, "an event that is not JSON") from cause
        match event.type:
            case "message_start":
                head = event.message or _Head()
                self._model = head.model
                yield from self._count(head.usage, final=False)
            case "content_block_start" if event.content_block is not None:
                yield from self._start(event.index, event.content_block)
            case "content_block_delta" if event.delta is not None:
                yield from self._delta(event.index, event.delta)
            case "content_block_stop" if self._calls.pop(event.index, False):
                # A call without arguments sends no piece of JSON at all.
                yield ToolCallPiece(self._place(event.index), arguments="{}")
            case "message_delta":
                yield from self._message_delta(event)
            case "message_stop" if self._stop is not None:
                self.ended = True
                finish = STOP.get(self._stop, FinishReason.STOP)
                tier = _Usage.model_validate(self._usage).service_tier
                yield Done(finish, self._model, tier)
            case "error":
                error = event.error or _Error()
                status = STATUS.get(error.type)
                raise reported(self._vendor, status, error.type, error.message)
            case _:
                return

    def _message_delta(self, event: _Event) -> Iterator[VendorEvent]:
        delta = event.delta or _Delta()
        self._stop = delta.stop_reason or self._stop
        if delta.stop_details is not None and delta.stop_details.explanation:
            yield Declined(len(self._places), delta.stop_details.explanation)
        yield from self._count(event.usage, final=True)

    def _start(self, index: int, block: _Block) -> Iterator[VendorEvent]:
        match block.type:
            case "text" if block.text:
                yield Text(self._place(index), block.text)
            case "thinking" if block.thinking or block.signature:
                yield Reasoning(
                    self._place(index), block.thinking or "", block.signature or None
                )
            case "redacted_thinking":
                yield Reasoning(self._place(index), redacted=block.data)
            case "tool_use":
                self._calls[index] = True
                yield ToolCallPiece(self._place(index), block.id, block.name)
            case _:
                return

    def _delta(self, index: int, delta: _Delta) -> Iterator[VendorEvent]:
        if delta.text:
            yield Text(self._place(index), delta.text)
        elif delta.thinking:
            yield Reasoning(self._place(index), delta.thinking)
        elif delta.signature:
            yield Reasoning(self._place(index), signature=delta.signature)
        elif delta.partial_json:
            self._calls[index] = False
            yield ToolCallPiece(self._place(index), arguments=delta.partial_json)

    def _count(self, usage: JsonObject | None, *, final: bool) -> Iterator[VendorEvent]:
        if usage is not None:
            # Counts are cumulative: what a later event names replaces the earlier.
            told = {name: value for name, value in usage.items() if value is not None}
            self._usage = self._usage | told
            yield UsageSeen(usage_of(self._usage), self._usage, final)

    def _place(self, index: int) -> int:
        return self._places.setdefault(index, len(self._places))


def usage_of(raw: JsonObject) -> TokenUsage:
    """
    Return Anthropic's counts as a partition.

    Its input excludes what the cache read or wrote; its output includes thinking.
    """
    usage = _Usage.model_validate(raw)
    written = usage.cache_creation_input_tokens or 0
    creation = usage.cache_creation or _Creation()
    hour = min(creation.ephemeral_1h_input_tokens or 0, written)
    output = usage.output_tokens or 0
    details = usage.output_tokens_details or _OutputDetails()
    thought = min(details.thinking_tokens or 0, output)
    return TokenUsage(
        input_tokens=usage.input_tokens or 0,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        cache_write_5m_tokens=written - hour,
        cache_write_1h_tokens=hour,
        output_tokens=output - thought,
        reasoning_tokens=thought,
    )
