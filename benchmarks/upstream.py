"""
A vendor that costs next to nothing: OpenAI chat completions by raw asyncio.

    python benchmarks/upstream.py --port 8700 [--token-ms 0] [--tokens 8]

Every answer is the same text, whole or streamed, with its usage. It is the upstream
of every contender, so that what differs is what stands between.
"""

import argparse
import asyncio
from typing import Final, cast

import uvloop

WORD: Final = "word "
CREATED: Final = 1_790_000_000
INPUT_TOKENS: Final = 12
HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: "
ANSWER: Final = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":%d,"model":"%s",'
    '"choices":[{"index":0,"message":{"role":"assistant","content":"%s",'
    '"refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":%s}'
)
CHUNK: Final = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":%d,"model":"%s",'
    '"choices":[{"index":0,"delta":%s,"finish_reason":%s}],"usage":null}'
)
LAST: Final = (
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":%d,"model":"%s",'
    '"choices":[],"usage":%s}'
)


class Answers:
    """What is sent, made once."""

    def __init__(self, model: str, tokens: int, token_ms: float) -> None:
        usage = (
            f'{{"prompt_tokens":{INPUT_TOKENS},"completion_tokens":{tokens},'
            f'"total_tokens":{INPUT_TOKENS + tokens}}}'
        )
        whole = (ANSWER % (CREATED, model, WORD * tokens, usage)).encode()
        length = str(len(whole)).encode()
        self.whole = (
            HEAD
            + b"application/json\r\ncontent-length: "
            + length
            + b"\r\n\r\n"
            + whole
        )
        begin = CHUNK % (CREATED, model, '{"role":"assistant","content":""}', "null")
        word = CHUNK % (CREATED, model, f'{{"content":"{WORD}"}}', "null")
        end = CHUNK % (CREATED, model, "{}", '"stop"')
        usage_chunk = LAST % (CREATED, model, usage)
        head = HEAD + b"text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self.first = head + _event(begin)
        self.word = _event(word)
        self.last = _event(end) + _event(usage_chunk) + _event("[DONE]") + b"0\r\n\r\n"
        self.tokens = tokens
        self.token_s = token_ms / 1000


def _event(data: str) -> bytes:
    payload = f"data: {data}\n\n".encode()
    return f"{len(payload):x}\r\n".encode() + payload + b"\r\n"


class Upstream(asyncio.Protocol):
    """One connection; requests follow each other on it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        # cast: uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Write nothing more."""
        del exc
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._buffer += data
        while (body := self._take()) is not None:
            self._answer(body)

    def _take(self) -> bytes | None:
        """Take one whole request's body; None when more must come."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[:end]).lower()
        found = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        size = end + 4 + int(found or b"0")
        if len(self._buffer) < size:
            return None
        body = bytes(self._buffer[end + 4 : size])
        del self._buffer[:size]
        return body

    def _answer(self, body: bytes) -> None:
        is_streamed = b'"stream":true' in body or b'"stream": true' in body
        if self._transport is None:
            return
        if not is_streamed:
            self._transport.write(self._answers.whole)
        elif not self._answers.token_s:
            words = self._answers.word * self._answers.tokens
            self._transport.write(self._answers.first + words + self._answers.last)
        else:
            task = asyncio.get_running_loop().create_task(self._drip())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _drip(self) -> None:
        self._write(self._answers.first + self._answers.word)
        for _ in range(self._answers.tokens - 1):
            await asyncio.sleep(self._answers.token_s)
            self._write(self._answers.word)
        self._write(self._answers.last)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve(port: int, answers: Answers) -> None:
    """Listen until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(answers), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="gpt-5.6-luna")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--token-ms", type=float, default=0)
    chosen = parser.parse_args()
    answers = Answers(chosen.model, chosen.tokens, chosen.token_ms)
    uvloop.run(serve(chosen.port, answers))


if __name__ == "__main__":
    main()
