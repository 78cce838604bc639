"""The vendor: admits calls on both protocols and keeps a ledger row of each."""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, TypeAlias

from aiohttp import web

from sandbox import embeddings, oddities, tokens
from sandbox.anthropic_wire import AnthropicWire
from sandbox.call import CallRecord, Latency
from sandbox.delivery import Delivery, deliver, deliver_whole
from sandbox.ledger import EndState, Ledger, RowKind
from sandbox.limits import KEYS_MAX, Allowance, Limits
from sandbox.openai_wire import OpenAIWire
from sandbox.payload import (
    Failure,
    FailureKind,
    JsonObject,
    RequestRefused,
    bad_request,
    compact,
    parse_object,
    text_of,
)
from sandbox.prefix_cache import PrefixCache
from sandbox.replies import Asked, make_reply
from sandbox.rules import Call, Rules
from sandbox.wire import Usage, Wire
from sandbox.world import World

OPENAI: Final = OpenAIWire()
ANTHROPIC: Final = AnthropicWire()
BODY_TIMEOUT_S: Final = 60.0
CLIENT_REQUEST_ID: Final = "x-client-request-id"
PROMPT_TOO_LONG: Final = 1_000_000
BAD_GATEWAY: Final = (
    "<html><head><title>502 Bad Gateway</title></head>"
    "<body><h1>502 Bad Gateway</h1></body></html>"
)

Answering: TypeAlias = Callable[
    [web.Request, Wire, CallRecord], Awaitable[web.StreamResponse]
]


@dataclass
class Vendor:
    """
    One sandbox vendor.

    ``key`` is the only API key that is let in; without it any non-empty one is.
    """

    ledger: Ledger
    limits: Limits
    cache: PrefixCache
    key: str | None = None
    latency: Latency = field(default_factory=Latency)
    faults: Rules = field(default_factory=Rules)
    world: World = field(default_factory=World)
    open_calls: dict[str, CallRecord] = field(default_factory=dict[str, CallRecord])

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/chat/completions``."""
        return await self._serve(request, OPENAI, self._complete)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/embeddings``."""
        return await self._serve(request, OPENAI, self._embed)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/messages``."""
        return await self._serve(request, ANTHROPIC, self._complete)

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/messages/count_tokens``: costs nothing, leaves no row."""
        try:
            self.authenticate(request, ANTHROPIC)
            body = parse_object(await request.read())
            asked = ANTHROPIC.parse({"max_tokens": 1, **body}, request.headers)
        except RequestRefused as refused:
            return self.refuse(request, ANTHROPIC, refused.failure)
        return web.json_response({"input_tokens": tokens.count_input(asked)})

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/models``, in the protocol of who asks."""
        wire = wire_of(request)
        try:
            self.authenticate(request, wire)
        except RequestRefused as refused:
            return self.refuse(request, wire, refused.failure)
        return web.json_response(wire.model_list())

    async def show_model(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/models/{model}``."""
        wire, model = wire_of(request), request.match_info["model"]
        try:
            self.authenticate(request, wire)
            if wire is not OPENAI or model not in embeddings.MODELS:
                require_model(wire, model)
        except RequestRefused as refused:
            return self.refuse(request, wire, refused.failure)
        return web.json_response(wire.model_entry(model))

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        """Answer every other path below ``/v1``."""
        text = f"Unknown request URL: {request.method} {request.path}."
        failure = Failure(FailureKind.NOT_FOUND, text)
        return self.refuse(request, wire_of(request), failure)

    async def _serve(
        self, request: web.Request, wire: Wire, answer: Answering
    ) -> web.StreamResponse:
        key = wire.key_of(request.headers)
        record = CallRecord(
            request_id=f"req_{self.world.new_id()}",
            client_request_id=request.headers.get(CLIENT_REQUEST_ID, ""),
            protocol=wire.name,
            started_at=self.world.now(),
            api_key_id=key_id(key),
        )
        self.open_calls[record.request_id] = record
        try:
            return await answer(request, wire, record)
        except RequestRefused as refused:
            record.end_state = EndState.ERROR
            return self.refuse(request, wire, refused.failure, record)
        except RecursionError:
            record.end_state = EndState.ERROR
            refused = bad_request("The request is nested too deeply.")
            return self.refuse(request, wire, refused.failure, record)
        except ConnectionError:
            # The client is gone: the record says so already, nobody is left to tell.
            return web.Response(status=499)
        finally:
            del self.open_calls[record.request_id]
            now = self.world.now()
            self.limits.spend(key, record.output_tokens, now)
            self.ledger.add(record.row(self.ledger.next_sequence, now))

    async def _complete(
        self, request: web.Request, wire: Wire, record: CallRecord
    ) -> web.StreamResponse:
        key = self.authenticate(request, wire)
        body = parse_object(await _read(request))
        conversation = wire.parse(body, request.headers)
        record.model, record.stream = conversation.model, conversation.stream
        require_model(wire, conversation.model)
        texts = [turn.text for turn in conversation.turns]
        prompt = tokens.count_input(conversation)
        delivery = self._admit(request, wire, record, texts, prompt)
        if too_long := wire.too_long(prompt):
            raise RequestRefused(too_long)
        asked = Asked(wire, key, conversation, prompt, delivery.fault)
        return await deliver(delivery, make_reply(asked, record, self.cache))

    async def _embed(
        self, request: web.Request, wire: Wire, record: CallRecord
    ) -> web.StreamResponse:
        self.authenticate(request, wire)
        record.kind = RowKind.EMBEDDING
        body = parse_object(await _read(request))
        record.model = text_of(body.get("model"))
        asked = embeddings.parse_request(body)
        delivery = self._admit(request, wire, record, asked.texts, asked.tokens)
        record.usage = record.told = Usage(asked.tokens, 0)
        if fault := delivery.fault:
            telling = fault.behaviour.telling
            record.told = oddities.tell(record.usage, telling, fault.percent)
        return await deliver_whole(delivery, embeddings.render(asked, record.told))

    def _admit(
        self,
        request: web.Request,
        wire: Wire,
        record: CallRecord,
        texts: Sequence[str],
        prompt: int,
    ) -> Delivery:
        """
        Let the call in, with its fault and what is left to its key.

        Raises:
            RequestRefused: Its fault, or its key's limits, refuse it.
        """
        headers, now = request.headers, self.world.now()
        call = Call(wire.name, record.model, texts, record.client_request_id)
        fault = self.faults.pick(headers.get("x-sandbox-fault"), call)
        record.fault = fault.name if fault else ""
        if refusal := fault and fault.refusal(now):
            if refusal.kind is FailureKind.CONTEXT_EXCEEDED:
                refusal = wire.too_long(prompt + PROMPT_TOO_LONG) or refusal
            raise RequestRefused(refusal)
        allowance = self.limits.admit(wire.key_of(headers), prompt, now)
        if allowance.is_spent:
            raise RequestRefused(spent(allowance, record.model))
        return Delivery(
            request=request,
            wire=wire,
            record=record,
            latency=self._latency_of(request),
            fault=fault,
            headers=wire.headers(record.request_id, allowance),
            world=self.world,
        )

    def _latency_of(self, request: web.Request) -> Latency:
        """Take the latency in force, the first token's overruled by a header."""
        header = request.headers.get("x-sandbox-latency-ms", "")
        if header.isdigit():
            return replace(self.latency, first_ms=float(header))
        return self.latency

    def authenticate(self, request: web.Request, wire: Wire) -> str:
        """
        Return the key that the request gives.

        Raises:
            RequestRefused: There is none, or another is wanted.
        """
        key = wire.key_of(request.headers)
        if not key or self.key not in (None, key):
            text = "Incorrect or missing API key. Any non-empty key serves by default."
            raise RequestRefused(Failure(FailureKind.UNAUTHENTICATED, text))
        return key

    def refuse(
        self,
        request: web.Request,
        wire: Wire,
        failure: Failure,
        record: CallRecord | None = None,
    ) -> web.Response:
        """Write the failure in the protocol's envelope, with its headers."""
        request_id = record.request_id if record else f"req_{self.world.new_id()}"
        status, envelope = wire.render_failure(failure, request_id)
        if record:
            record.status = status
        allowance = self.limits.look(wire.key_of(request.headers), self.world.now())
        headers = {**wire.headers(request_id, allowance), **dict(failure.headers)}
        if failure.kind is FailureKind.BAD_GATEWAY:
            # What a proxy in front of the vendor says is no envelope of the vendor's.
            return web.Response(
                text=BAD_GATEWAY,
                status=status,
                headers=dict(failure.headers),
                content_type="text/html",
            )
        return json_reply(envelope, status, headers)


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as cause:
        text = "The request exceeds the maximum size of 32 MiB."
        raise RequestRefused(Failure(FailureKind.TOO_LARGE, text)) from cause
    except TimeoutError as cause:
        text = f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s."
        raise bad_request(text) from cause


def spent(allowance: Allowance, model: str) -> Failure:
    """Refuse a call beyond its key's limits, and tell which, and for how long."""
    kind, what = FailureKind.TOKENS_LIMITED, "tokens per min (TPM)"
    limit, left = allowance.tokens_limit, allowance.tokens_left
    if allowance.requests_left < 0:
        kind, what = FailureKind.RATE_LIMITED, "requests per min (RPM)"
        limit, left = allowance.requests_limit, allowance.requests_left
    wait = str(math.ceil(allowance.reset_s))
    text = (
        f"Rate limit reached for {model} on {what}: Limit {limit}, Used "
        f"{limit - left}. Please try again in {wait}s."
    )
    return Failure(kind, text, headers=(("retry-after", wait),))


@lru_cache(maxsize=KEYS_MAX)
def key_id(key: str) -> str:
    """Return a name for a key that does not give it away."""
    digest = hashlib.blake2b(key.encode(), digest_size=6).hexdigest()
    return f"key_{digest}" if key else ""


def wire_of(request: web.Request) -> Wire:
    """Tell the protocols apart where the path does not."""
    is_anthropic = "anthropic-version" in request.headers
    return ANTHROPIC if is_anthropic else OPENAI


def require_model(wire: Wire, model: str) -> None:
    """
    Check that the model exists.

    Raises:
        RequestRefused: It does not, or none was named.
    """
    if not model:
        text = "you must provide a model parameter"
        raise bad_request(text, "model")
    if model not in wire.models:
        text = (
            f"The model `{model}` does not exist or you do not have access to it. "
            f"The sandbox has: {', '.join(wire.models)}."
        )
        raise RequestRefused(Failure(FailureKind.NO_MODEL, text, "model"))


def json_reply(
    body: JsonObject, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Write a JSON body."""
    return web.Response(
        body=compact(body).encode(),
        status=status,
        headers=headers,
        content_type="application/json",
    )
