"""A vendor: its dialect spoken over a transport."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import orjson

import telemetry
from ai_broker.adapters.vendors import failures
from ai_broker.adapters.vendors.dialect import DIALECTS
from ai_broker.adapters.vendors.fields import NotTheProtocol
from ai_broker.adapters.vendors.refusal import Fit
from ai_broker.adapters.vendors.sse import EventReader, EventTooLarge
from ai_broker.adapters.vendors.transport import Asked, Reply, Transport
from ai_broker.domain.catalogue import Candidate, Endpoint, quirks_of
from ai_broker.domain.vendor import Prepared, Started, VendorEvent
from contracts.completions import CompletionRequest
from contracts.message import Json, JsonObject
from telemetry import names

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
DRAIN_S: Final = 0.25


class VendorClient:
    """
    One vendor.

    Args:
        endpoint: Where it is, and its key.
        transport: Its connections.
    """

    def __init__(self, endpoint: Endpoint, transport: Transport) -> None:
        self._entry = endpoint.entry
        self._name = endpoint.entry.name
        self._dialect = DIALECTS[endpoint.entry.protocol]
        self._transport = transport
        self._host = urlsplit(endpoint.base_url).hostname or ""
        self._quirks = {
            each.name: quirks_of(self._entry, each.name) for each in self._entry.models
        }

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return the request body; PermanentFault names what has no place in it."""
        quirks = self._quirks.get(candidate.model, self._entry.quirks)
        fit = Fit(self._name, quirks, request)
        body = self._dialect.body_of(request, candidate, fit)
        return Prepared(body, fit.dropped)

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Call once and yield the answer as it comes."""
        events = EventReader()
        stream = self._dialect.stream_of(self._name, self._entry.quirks)
        received = 0
        telemetry.set_attributes({names.SERVER_ADDRESS: self._host})
        async with self._transport.call(body, attempt_id, timeout_s) as reply:
            request_id = reply.headers.get(self._dialect.request_id_header)
            yield Started(reply.status, request_id, reply.headers)
            async for chunk in reply.chunks:
                received += len(chunk)
                if received > ANSWER_BYTES_MAX:
                    what = f"an answer of more than {ANSWER_BYTES_MAX} bytes"
                    raise failures.malformed(self._name, what)
                try:
                    for data in events.feed(chunk):
                        for event in stream.feed(data):
                            yield event
                except (NotTheProtocol, EventTooLarge) as cause:
                    raise failures.malformed(self._name, cause) from cause
                if stream.ended:
                    await _drain(reply)
                    break
        # Without an end marker there is no end: whoever reads this sees a cut.
        if stream.ended:
            for event in stream.end():
                yield event

    async def models(
        self, check_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Ask for the list of models; what is in it is the vendor's business."""
        content = bytearray()
        asked = Asked.MODELS
        async with self._transport.call({}, check_id, timeout_s, asked) as reply:
            async for some in reply.chunks:
                content += some
                if len(content) > ANSWER_BYTES_MAX:
                    raise failures.malformed(self._name, "more than any list of models")
        try:
            found: Json = orjson.loads(content)
        except orjson.JSONDecodeError as cause:
            raise failures.malformed(self._name, "no list of models") from cause
        if not isinstance(found, dict | list):
            raise failures.malformed(self._name, "no list of models")
        request_id = reply.headers.get(self._dialect.request_id_header)
        yield Started(reply.status, request_id, reply.headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


async def _drain(reply: Reply) -> None:
    """Read what follows the end marker, so that the connection can be used again."""
    with suppress(TimeoutError, *reply.losses):
        async with asyncio.timeout(DRAIN_S):
            async for _ in reply.chunks:
                pass
