"""One answer on its way to the client: paced, written, and disturbed by a fault."""

from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from sandbox.call import CallRecord, Latency
from sandbox.conversation import Answer
from sandbox.dress import dress, dress_whole, slices, split_badly, spoil
from sandbox.faults import NO_FAULT, Behaviour, Disturbance, Dress, Fault, Point
from sandbox.ledger import EndState
from sandbox.payload import JsonObject, compact
from sandbox.tokens import PieceKind
from sandbox.wire import Reply, Wire
from sandbox.world import World

BATCH_BYTES: Final = 8192
_BREAKS: Final = frozenset(
    [Disturbance.CUT, Disturbance.END, Disturbance.STALL, Disturbance.ERROR_EVENT]
)
_MARK: Final = "\u241e"


@dataclass(frozen=True)
class Delivery:
    """Everything that sending one answer needs."""

    request: web.Request
    wire: Wire
    record: CallRecord
    latency: Latency
    fault: Fault | None
    headers: dict[str, str]
    world: World

    @property
    def behaviour(self) -> Behaviour:
        """The fault's behaviour; without a fault, none."""
        return self.fault.behaviour if self.fault else NO_FAULT


async def deliver(delivery: Delivery, reply: Reply) -> web.StreamResponse:
    """Send the reply, streamed or whole, with the fault that was picked."""
    if delivery.behaviour.disturbance in (Disturbance.HANG, Disturbance.RESET):
        return await _say_nothing(delivery)
    delivery.record.status = 200
    await _pause(delivery, delivery.latency.first_ms)
    if reply.conversation.stream:
        return await _deliver_stream(delivery, reply)
    await _generate(delivery, reply)
    if reply.endless:
        return await _deliver_endless(delivery, reply)
    delivery.record.output_tokens = reply.usage.output_tokens
    return await _deliver_body(delivery, delivery.wire.render(reply))


async def deliver_whole(delivery: Delivery, body: JsonObject) -> web.StreamResponse:
    """Send a body that is not generated token by token, with the fault."""
    if delivery.behaviour.disturbance in (Disturbance.HANG, Disturbance.RESET):
        return await _say_nothing(delivery)
    delivery.record.status = 200
    await _pause(delivery, delivery.latency.first_ms)
    return await _deliver_body(delivery, body)


async def _say_nothing(delivery: Delivery) -> web.StreamResponse:
    """Read the prompt and answer not even with headers."""
    record, behaviour = delivery.record, delivery.behaviour
    record.end_state = EndState.CUT
    transport = delivery.request.transport
    if behaviour.disturbance is Disturbance.HANG:
        record.end_state = EndState.STALLED
        await _pause(delivery, behaviour.delay_ms)
        _hang_up(delivery)
    elif transport is not None:
        transport.abort()
    return web.Response(status=504)


async def _generate(delivery: Delivery, reply: Reply) -> None:
    """Take the time that the tokens take, counting them as they come."""
    if not delivery.latency.token_ms or reply.endless:
        return
    for event in delivery.wire.stream(reply):
        await _pace(delivery, event.output_tokens)
        delivery.record.output_tokens = event.output_tokens


async def _deliver_body(delivery: Delivery, body: JsonObject) -> web.StreamResponse:
    record, behaviour, fault = delivery.record, delivery.behaviour, delivery.fault
    data = compact(body).encode()
    if fault is None:
        return await _write_whole(delivery, data, reported=True)
    data = dress_whole(data, behaviour.dress)
    part = data[: _untouched(fault, len(data))]
    match behaviour.disturbance:
        case Disturbance.BAD_JSON | Disturbance.END:
            return await _write_whole(delivery, part, reported=False)
        case Disturbance.ERROR_EVENT if behaviour.refusal:
            _, error = delivery.wire.render_failure(
                behaviour.refusal, record.request_id
            )
            data = compact(error).encode()
            response = await _write_whole(delivery, data, reported=False)
            record.end_state = EndState.ERROR
            return response
        case Disturbance.CUT | Disturbance.STALL:
            response = await _open(delivery, "application/json", len(data))
            await response.write(part)
            return await _break(delivery, response)
        case Disturbance.SLOW | Disturbance.DRIP | Disturbance.SPLIT:
            response = await _open(delivery, "application/json", len(data))
            await _dribble(delivery, response, data, slices(data))
            await response.write_eof()
            record.usage_reported = record.told is not None
            record.end_state = EndState.COMPLETED
            return response
        case _:
            return await _write_whole(delivery, data, reported=True)


def _untouched(fault: Fault, length: int) -> int:
    """Return how much of a body goes out before the fault strikes."""
    match fault.at:
        case None:
            return length // 2
        case Point.START:
            return 0
        case Point.END:
            return length - 1


async def _deliver_endless(delivery: Delivery, reply: Reply) -> web.StreamResponse:
    """Write a body whose text goes on until the client, or the rule, has enough."""
    body = delivery.wire.render(replace(reply, answer=Answer(_MARK)))
    head, _, _ = compact(body).partition(_MARK)
    response = await _open(delivery, "application/json", None)
    await response.write(head.encode())
    said = (piece for piece in reply.pieces() if piece.kind is PieceKind.TEXT)
    for number, piece in enumerate(said):
        if number >= delivery.behaviour.after_events:
            break
        await _pace(delivery, piece.tokens_so_far)
        await response.write(compact(piece.text)[1:-1].encode())
        delivery.record.output_tokens = piece.tokens_so_far
        await delivery.world.sleep(0)  # others' turn, and a hang-up is seen
    return await _break(delivery, response)


@dataclass
class _Outbox:
    """Events on their way; usage counts as reported once it is written."""

    response: web.StreamResponse
    record: CallRecord
    data: bytearray = field(default_factory=bytearray)
    has_usage: bool = False

    def add(self, data: bytes, *, has_usage: bool) -> None:
        """Keep an event until it is sent."""
        self.data += data
        self.has_usage = self.has_usage or has_usage

    async def send(self) -> None:
        """Write what is kept."""
        if self.data:
            await self.response.write(bytes(self.data))
            self.data.clear()
        self.record.usage_reported = self.has_usage

    async def finish(self) -> None:
        """Write what is kept with the end of the body."""
        await self.response.write_eof(bytes(self.data))
        self.record.usage_reported = self.has_usage
        self.record.end_state = EndState.COMPLETED


async def _deliver_stream(delivery: Delivery, reply: Reply) -> web.StreamResponse:
    fault, behaviour = delivery.fault, delivery.behaviour
    disturbance, struck = behaviour.disturbance, False
    response = await _open(delivery, "text/event-stream; charset=utf-8", None)
    events, outbox = delivery.wire.stream(reply), _Outbox(response, delivery.record)
    if behaviour.dress is not Dress.PLAIN:
        events = dress(events, behaviour.dress, delivery.wire.name)
    is_paced = delivery.latency.token_ms > 0
    for number, event in enumerate(events):
        data, has_usage = event.data, event.reports_usage
        if fault and not struck and fault.strikes(number, event.stage):
            struck = True
            if disturbance in _BREAKS:
                await outbox.send()
                return await _break(delivery, response)
            if disturbance is Disturbance.BAD_JSON:
                data, has_usage = spoil(data), False
        if is_paced:
            await outbox.send()
            await _pace(delivery, event.output_tokens)
        if disturbance in _DRIBBLES:
            await _dribble(delivery, response, data, [data])
            data = b""
        outbox.add(data, has_usage=has_usage)
        if len(outbox.data) >= BATCH_BYTES:
            await outbox.send()
            await delivery.world.sleep(0)  # others' turn, and a hang-up is seen
        delivery.record.output_tokens = event.output_tokens
    await outbox.finish()
    return response


_DRIBBLES: Final = frozenset([Disturbance.SLOW, Disturbance.DRIP, Disturbance.SPLIT])


async def _dribble(
    delivery: Delivery, response: web.StreamResponse, data: bytes, slow: list[bytes]
) -> None:
    """Write in the parts that the fault wants, with its pause before each."""
    behaviour, parts = delivery.behaviour, slow
    if behaviour.disturbance is Disturbance.DRIP:
        parts = [data[at : at + 1] for at in range(len(data))]
    elif behaviour.disturbance is Disturbance.SPLIT:
        parts = split_badly(data)
    for part in parts:
        await _pause(delivery, behaviour.delay_ms)
        await response.write(part)


async def _break(
    delivery: Delivery, response: web.StreamResponse
) -> web.StreamResponse:
    """End what has begun without its end: cut, stalled or with an error event."""
    record, behaviour = delivery.record, delivery.behaviour
    record.end_state = EndState.CUT
    match behaviour.disturbance:
        case Disturbance.ERROR_EVENT if behaviour.refusal:
            record.end_state = EndState.ERROR
            wire, request_id = delivery.wire, record.request_id
            await response.write(wire.stream_failure(behaviour.refusal, request_id))
            await response.write_eof()
            return response
        case Disturbance.END:
            await response.write_eof()
            return response
        case Disturbance.STALL:
            record.end_state = EndState.STALLED
            await _pause(delivery, behaviour.delay_ms)
        case _:
            pass
    _hang_up(delivery)
    return response


def _hang_up(delivery: Delivery) -> None:
    """Close the connection under the response; what was written still arrives."""
    transport = delivery.request.transport
    if transport is not None:
        transport.close()


async def _write_whole(
    delivery: Delivery, data: bytes, *, reported: bool
) -> web.StreamResponse:
    response = web.Response(
        body=data, headers=delivery.headers, content_type="application/json"
    )
    await response.prepare(delivery.request)
    await response.write_eof()
    record = delivery.record
    record.usage_reported = reported and record.told is not None
    record.end_state = EndState.COMPLETED
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


async def _pause(delivery: Delivery, milliseconds: float) -> None:
    if milliseconds > 0:
        await delivery.world.sleep(milliseconds / 1000)


async def _pace(delivery: Delivery, tokens_so_far: int) -> None:
    """Wait for the tokens that came since the last event."""
    fresh = tokens_so_far - delivery.record.output_tokens
    await _pause(delivery, delivery.latency.token_ms * max(fresh, 0))
