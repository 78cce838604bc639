"""
The bare shape: raw ASGI → NATS request → aiohttp, with no features at all.

    python benchmarks/bare.py front --nats nats://127.0.0.1:4222 --port 8701
    python benchmarks/bare.py back --nats … --upstream http://127.0.0.1:8700/v1

It is the limit of what two Python processes over NATS can reach here: nothing is
checked, stored, metered or traced.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import aiohttp
import nats
import uvicorn
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

SUBJECT: Final = "bare.complete"
END: Final = b""
WAIT_S: Final = 120
JSON: Final = [(b"content-type", b"application/json")]
STREAM: Final = [(b"content-type", b"text/event-stream")]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Front:
    """The HTTP side."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client | None = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if self._client is None:
            self._client = await connect(self._url)
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        request = bytes(body)
        if b'"stream":true' in request or b'"stream": true' in request:
            await self._stream(self._client, request, send)
            return
        answer = await self._client.request(SUBJECT, request, timeout=WAIT_S)
        await send({"type": "http.response.start", "status": 200, "headers": JSON})
        await send({"type": "http.response.body", "body": answer.data})

    async def _stream(self, client: Client, request: bytes, send: Send) -> None:
        inbox = client.new_inbox()
        frames = await client.subscribe(inbox)  # pyright: ignore[reportUnknownMemberType]
        await client.publish(SUBJECT, request, reply=inbox)
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        async for frame in frames.messages:
            more = frame.data != END
            await send(
                {"type": "http.response.body", "body": frame.data, "more_body": more}
            )
            if not more:
                break
        await frames.unsubscribe()


async def connect(url: str) -> Client:
    """Connect as nats-py does by default."""
    return await nats.connect(url)  # pyright: ignore[reportUnknownMemberType]


async def back(nats_url: str, upstream: str) -> None:
    """Answer requests by asking the upstream."""
    client = await connect(nats_url)
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector)
    running: set[asyncio.Task[None]] = set()
    headers = {"content-type": "application/json", "authorization": "Bearer none"}

    async def answer(msg: Msg) -> None:
        url = f"{upstream}/chat/completions"
        async with session.post(url, data=msg.data, headers=headers) as response:
            if "event-stream" not in response.headers["content-type"]:
                await msg.respond(await response.read())
                return
            async for chunk in response.content.iter_any():
                await msg.respond(chunk)
            await msg.respond(END)

    async def on_request(msg: Msg) -> None:
        task = asyncio.get_running_loop().create_task(answer(msg))
        running.add(task)
        task.add_done_callback(running.discard)

    await client.subscribe(SUBJECT, cb=on_request)  # pyright: ignore[reportUnknownMemberType]
    await asyncio.Event().wait()


def main() -> None:
    """Run one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("front", "back"))
    parser.add_argument("--nats", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--upstream", default="")
    chosen = parser.parse_args()
    if chosen.side == "back":
        uvloop.run(back(chosen.nats, chosen.upstream))
    else:
        uvicorn.run(
            Front(chosen.nats),
            host="127.0.0.1",
            port=chosen.port,
            log_level="error",
            loop="uvloop",
            http="httptools",
            lifespan="off",
        )


if __name__ == "__main__":
    main()
