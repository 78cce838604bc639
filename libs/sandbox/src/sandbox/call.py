"""
One call from admission to its ledger row: think, pace, write, and be disturbed.

``CallRecord`` is written to while the call runs, so that whatever ends it (the last
byte, a fault, the client hanging up) finds the tokens generated so far.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from sandbox.faults import Behaviour, Disturbance, Fault
from sandbox.ledger import EndState, Row
from sandbox.payload import JsonObject, compact
from sandbox.wire import Event, Reply, Usage, Wire
from sandbox.world import World

BATCH_BYTES: Final = 8192
NO_USAGE: Final = Usage(0, 0)


@dataclass(frozen=True)
class Latency:
    """Milliseconds before the first token, and per token afterwards."""

    first_ms: float = 0.0
    token_ms: float = 0.0


@dataclass
class CallRecord:
    """What is known of a running call; becomes a ledger row at its end."""

    request_id: str
    client_request_id: str
    protocol: str
    started_at: float
    model: str = ""
    stream: bool = False
    status: int = 0
    fault: str = ""
    end_state: EndState = EndState.CLIENT_DISCONNECTED
    usage: Usage = NO_USAGE
    usage_reported: bool = False
    output_tokens: int = 0

    def row(self, sequence: int, now: float) -> Row:
        """Close the record."""
        return Row(
            sequence=sequence,
            request_id=self.request_id,
            client_request_id=self.client_request_id,
            protocol=self.protocol,
            model=self.model,
            stream=self.stream,
            status=self.status,
            end_state=self.end_state,
            fault=self.fault,
            usage_reported=self.usage_reported,
            input_tokens=self.usage.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_tokens=self.usage.cache_read_tokens,
            cache_write_tokens=self.usage.cache_write_tokens,
            reasoning_tokens=min(self.usage.reasoning_tokens, self.output_tokens),
            started_at=self.started_at,
            ended_at=now,
        )


@dataclass(frozen=True)
class Delivery:
    """Everything that sending one reply needs."""

    request: web.Request
    wire: Wire
    reply: Reply
    record: CallRecord
    latency: Latency
    fault: Fault | None
    headers: dict[str, str]
    world: World

    @property
    def behaviour(self) -> Behaviour:
        """The fault's behaviour; without a fault, none."""
        return self.fault.behaviour if self.fault else Behaviour()


async def deliver(delivery: Delivery) -> web.StreamResponse:
    """Send the reply, streamed or whole, with the fault that was picked."""
    record, behaviour = delivery.record, delivery.behaviour
    record.status = 200
    if behaviour.disturbance is Disturbance.HANG:
        record.status = 0
        record.end_state = EndState.STALLED
        await delivery.world.sleep(behaviour.delay_ms / 1000)
        _hang_up(delivery)
        return web.Response(status=504)
    await _pause(delivery, delivery.latency.first_ms)
    if delivery.reply.conversation.stream:
        return await _deliver_stream(delivery)
    return await _deliver_whole(delivery)


async def _deliver_whole(delivery: Delivery) -> web.StreamResponse:
    record, behaviour = delivery.record, delivery.behaviour
    await _generate(delivery)
    record.output_tokens = delivery.reply.usage.output_tokens
    body = compact(delivery.wire.render(delivery.reply)).encode()
    half = body[: len(body) // 2]
    match behaviour.disturbance:
        case Disturbance.BAD_JSON:
            return await _write_whole(delivery, half)
        case Disturbance.CUT | Disturbance.STALL:
            response = await _open(delivery, "application/json", len(body))
            await response.write(half)
            return await _break(delivery, response)
        case Disturbance.SLOW:
            response = await _open(delivery, "application/json", len(body))
            for part in _slices(body, 10):
                await _pause(delivery, behaviour.delay_ms)
                await response.write(part)
            return _completed(delivery, response)
        case _:
            return await _write_whole(delivery, body, whole=True)


async def _generate(delivery: Delivery) -> None:
    """Take the time that the tokens take, counting them as they come."""
    if not delivery.latency.token_ms:
        return
    for event in delivery.wire.stream(delivery.reply):
        await _pace(delivery, event)
        delivery.record.output_tokens = event.output_tokens


async def _deliver_stream(delivery: Delivery) -> web.StreamResponse:
    record, fault = delivery.record, delivery.fault
    behaviour = delivery.behaviour
    disturbance = behaviour.disturbance
    response = await _open(delivery, "text/event-stream; charset=utf-8", None)
    batch = bytearray()
    for number, event in enumerate(delivery.wire.stream(delivery.reply)):
        if fault and number == fault.after_events:
            if disturbance is Disturbance.BAD_JSON:
                event = _spoil(event)  # noqa: PLW2901
            elif disturbance in _ENDINGS:
                await _flush(response, batch)
                return await _break(delivery, response)
        if disturbance is Disturbance.SLOW and number:
            await _flush(response, batch)
            await _pause(delivery, behaviour.delay_ms)
        if delivery.latency.token_ms:
            await _flush(response, batch)
            await _pace(delivery, event)
        batch += event.data
        if number == 0 or len(batch) >= BATCH_BYTES:
            await _flush(response, batch)
        record.output_tokens = event.output_tokens
        record.usage_reported = record.usage_reported or event.reports_usage
    await _flush(response, batch)
    await response.write_eof()
    return _completed(delivery, response)


_ENDINGS: Final = {Disturbance.CUT, Disturbance.STALL, Disturbance.ERROR_EVENT}


async def _break(
    delivery: Delivery, response: web.StreamResponse
) -> web.StreamResponse:
    """End what has begun without its end: cut, stalled or with an error event."""
    record, behaviour = delivery.record, delivery.behaviour
    record.end_state = EndState.CUT
    if behaviour.disturbance is Disturbance.STALL:
        record.end_state = EndState.STALLED
        await delivery.world.sleep(behaviour.delay_ms / 1000)
    if behaviour.refusal and delivery.reply.conversation.stream:
        record.end_state = EndState.ERROR
        wire, request_id = delivery.wire, record.request_id
        await response.write(wire.stream_failure(behaviour.refusal, request_id))
        await response.write_eof()
        return response
    _hang_up(delivery)
    return response


def _hang_up(delivery: Delivery) -> None:
    """Close the connection under the response; what was written still arrives."""
    transport = delivery.request.transport
    if transport is not None:
        transport.close()


async def _write_whole(
    delivery: Delivery, body: bytes, *, whole: bool = False
) -> web.StreamResponse:
    response = web.Response(
        body=body, headers=delivery.headers, content_type="application/json"
    )
    await response.prepare(delivery.request)
    await response.write_eof()
    delivery.record.usage_reported = whole
    delivery.record.end_state = EndState.COMPLETED
    return response


async def _open(
    delivery: Delivery, content_type: str, length: int | None
) -> web.StreamResponse:
    headers = {**delivery.headers, "content-type": content_type}
    response = web.StreamResponse(headers=headers)
    if length is None:
        response.headers["cache-control"] = "no-cache"
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    await response.prepare(delivery.request)
    return response


async def _flush(response: web.StreamResponse, batch: bytearray) -> None:
    if batch:
        await response.write(bytes(batch))
        batch.clear()


async def _pause(delivery: Delivery, milliseconds: float) -> None:
    if milliseconds > 0:
        await delivery.world.sleep(milliseconds / 1000)


async def _pace(delivery: Delivery, event: Event) -> None:
    """Wait for the tokens of this event."""
    fresh = event.output_tokens - delivery.record.output_tokens
    await _pause(delivery, delivery.latency.token_ms * max(fresh, 0))


def _completed(delivery: Delivery, response: web.StreamResponse) -> web.StreamResponse:
    if not delivery.reply.conversation.stream:
        delivery.record.usage_reported = True
    delivery.record.end_state = EndState.COMPLETED
    return response


def _spoil(event: Event) -> Event:
    """Break the event's JSON in the middle."""
    text = event.data.rstrip(b"\n")
    return Event(text[: len(text) * 2 // 3] + b"\n\n", event.output_tokens)


def _slices(body: bytes, parts: int) -> Iterator[bytes]:
    size = -(-len(body) // parts)
    return (body[at : at + size] for at in range(0, len(body), size))


def open_call(record: CallRecord) -> JsonObject:
    """Describe a running call."""
    return {
        "request_id": record.request_id,
        "client_request_id": record.client_request_id,
        "protocol": record.protocol,
        "model": record.model,
        "output_tokens": record.output_tokens,
        "started_at": record.started_at,
    }
