"""OpenAI and whoever speaks its chat completions, by the official SDK."""

from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel, ValidationError

from ai_broker.adapters.vendors import sse
from ai_broker.adapters.vendors.openai_request import body_of
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
from contracts.message import Json, JsonObject
from contracts.usage import TokenUsage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

FINISH: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
STATUS: Final = {
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "invalid_request_error": 400,
}


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _Call(BaseModel):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(BaseModel):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(BaseModel):
    delta: _Delta | None = None
    finish_reason: str | None = None
    logprobs: JsonObject | None = None


class _Error(BaseModel):
    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _Chunk(BaseModel):
    """What is read of a chunk; some compatible vendors send ``choices: null``."""

    model: str = ""
    choices: list[_Choice] | None = None
    usage: JsonObject | None = None
    service_tier: str | None = None
    error: _Error | str | None = None


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _OutputDetails(BaseModel):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class OpenAIVendor:
    """
    A vendor that speaks chat completions.

    Args:
        endpoint: Where it is, and its key.
        patience: Limits of single steps.
    """

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        self._name = endpoint.entry.name
        self._endpoint = endpoint
        self._patience = patience
        self._client = Lazy("openai", self._make)

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return the request body; PermanentFault names what has no place in it."""
        return Prepared(body_of(request, candidate.model))

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
        with translated(self._name, "openai"):
            async with client.chat.completions.with_streaming_response.create(
                **fields,
                stream=True,
                extra_headers={"X-Client-Request-Id": attempt_id},
                timeout=timeout,
            ) as response:
                headers = lower(response.headers)
                request_id = headers.get("x-request-id")
                yield Started(response.status_code, request_id, headers)
                events = sse.events(response.iter_bytes())
                async for event in events:
                    if event.data.strip() == b"[DONE]":
                        await drain(events)
                        break
                    for heard in stream.feed(event.data):
                        yield heard
                else:
                    return  # no end marker: whoever reads this sees a cut
        for last in stream.end():
            yield last

    async def close(self) -> None:
        """Close the connections."""
        if self._client.made is not None:
            await self._client.made.close()

    def _make(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI  # noqa: PLC0415 -- costs a second of CPU

        return AsyncOpenAI(
            api_key=self._endpoint.key,
            base_url=self._endpoint.base_url,
            max_retries=0,
        )


class _Stream:
    """Reads chunks; numbers parts in the order in which they first appear."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._places: dict[str, int] = {}
        self._finish: FinishReason | None = None
        self._declined = False
        self._model = ""
        self._tier: str | None = None
        self._logprobs: list[Json] = []

    def feed(self, data: bytes) -> Iterator[VendorEvent]:
        """Read one chunk."""
        try:
            chunk = _Chunk.model_validate_json(data)
        except ValidationError as cause:
            raise malformed(self._vendor, "a chunk that is not JSON") from cause
        if chunk.error is not None:
            raise self._error(chunk.error)
        self._model = chunk.model or self._model
        self._tier = chunk.service_tier or self._tier
        for choice in chunk.choices or ():
            yield from self._choice(choice)
        if chunk.usage is not None:
            yield UsageSeen(usage_of(chunk.usage), chunk.usage, final=True)

    def end(self) -> Iterator[VendorEvent]:
        """Return the end; nothing when the vendor never said why it stopped."""
        if self._finish is not None:
            finish = FinishReason.REFUSAL if self._declined else self._finish
            logprobs: Json = {"content": self._logprobs} if self._logprobs else None
            yield Done(finish, self._model, self._tier, logprobs)

    def _choice(self, choice: _Choice) -> Iterator[VendorEvent]:
        delta = choice.delta or _Delta()
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning:
            yield Reasoning(self._place("reasoning"), reasoning)
        if delta.content:
            yield Text(self._place("text"), delta.content)
        if delta.refusal:
            self._declined = True
            yield Declined(self._place("refusal"), delta.refusal)
        for call in delta.tool_calls or ():
            function = call.function or _Function()
            yield ToolCallPiece(
                self._place(f"call {call.index}"),
                call.id,
                function.name,
                function.arguments or "",
            )
        found = (choice.logprobs or {}).get("content")
        if isinstance(found, list):
            self._logprobs.extend(found)
        if choice.finish_reason is not None:
            self._finish = FINISH.get(choice.finish_reason, FinishReason.STOP)

    def _place(self, what: str) -> int:
        return self._places.setdefault(what, len(self._places))

    def _error(self, error: _Error | str) -> Exception:
        if isinstance(error, str):
            return reported(self._vendor, None, "error", error)
        code = str(error.code or error.type or "error")
        status = STATUS.get(code) or STATUS.get(error.type or "")
        return reported(self._vendor, status, code, error.message)


def usage_of(raw: JsonObject) -> TokenUsage:
    """
    Return OpenAI's counts as a partition: its details are parts of its totals.

    Details that exceed their total are cut down to it, so that the sum of the
    partition is always the sum that the vendor bills.
    """
    usage = _Usage.model_validate(raw)
    prompt = usage.prompt_tokens_details or _PromptDetails()
    output = usage.completion_tokens_details or _OutputDetails()
    rest_in, rest_out = max(usage.prompt_tokens, 0), max(usage.completion_tokens, 0)
    cached = min(prompt.cached_tokens or 0, rest_in)
    rest_in -= cached
    written = min(prompt.cache_write_tokens or 0, rest_in)
    rest_in -= written
    audio_in = min(prompt.audio_tokens or 0, rest_in)
    reasoned = min(output.reasoning_tokens or 0, rest_out)
    rest_out -= reasoned
    audio_out = min(output.audio_tokens or 0, rest_out)
    return TokenUsage(
        input_tokens=rest_in - audio_in,
        cache_read_tokens=cached,
        cache_write_5m_tokens=written,
        input_audio_tokens=audio_in,
        output_tokens=rest_out - audio_out,
        reasoning_tokens=reasoned,
        output_audio_tokens=audio_out,
    )
