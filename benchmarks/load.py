"""
A load that costs little: prepared bytes over kept-alive connections.

Latencies are in milliseconds. A stream is *clean* when it ends with ``[DONE]`` after
every word that was sent; its time to first token is that to its first content.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

CONTENT: Final = b'"content":"word '
CONTENT_SPACED: Final = b'"content": "word '
LIMIT_S: Final = 60.0
OK: Final = b"200"


@dataclass(frozen=True)
class Target:
    """Who is asked, and how."""

    url: str
    """Of the chat completions endpoint."""
    headers: dict[str, str]
    model: str

    def request(self, *, stream: bool) -> bytes:
        """Return the bytes of one request."""
        place = urlsplit(self.url)
        flag = ',"stream":true' if stream else ""
        body = (
            f'{{"model":"{self.model}","messages":[{{"role":"user","content":'
            f'"Say a few words about the weather in Hamburg today"}}]{flag}}}'
        ).encode()
        lines = [
            f"POST {place.path} HTTP/1.1",
            f"host: {place.netloc}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Result:
    """What a run measured."""

    requests: int
    failed: int
    duration_s: float
    latencies_ms: Sequence[float]
    """Of the requests that succeeded; for streams, to the first token."""

    @property
    def per_second(self) -> float:
        """Successful requests per second."""
        return (self.requests - self.failed) / self.duration_s

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        if len(self.latencies_ms) < 2:  # noqa: PLR2004 -- quantiles needs two
            return self.latencies_ms[0] if self.latencies_ms else float("nan")
        return statistics.quantiles(self.latencies_ms, n=100)[percent - 1]


class Connection:
    """One kept-alive connection."""

    def __init__(self, target: Target) -> None:
        self._place = urlsplit(target.url)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> bytes:
        """Send a request; return the status and the whole body."""
        reader = await self._send(request)
        status, head = await _head(reader)
        if b"chunked" in head:
            body = b"".join([part async for part in _chunks(reader)])
        else:
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length))
        if status != OK:
            raise Refused(status, body)
        return body

    async def follow(self, request: bytes) -> tuple[float, bytes]:
        """Send a request for a stream; return the ms to its first word, and it all."""
        began = time.perf_counter()
        reader = await self._send(request)
        status, head = await _head(reader)
        first, body = 0.0, bytearray()
        if b"chunked" not in head:
            raise Refused(status, b"no stream")
        async for part in _chunks(reader):
            body += part
            if not first and (CONTENT in body or CONTENT_SPACED in body):
                first = (time.perf_counter() - began) * 1000
        if status != OK:
            raise Refused(status, bytes(body))
        return first, bytes(body)

    async def _send(self, request: bytes) -> asyncio.StreamReader:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                self._place.hostname, self._place.port
            )
        self._writer.write(request)
        return self._reader

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status: bytes, body: bytes) -> None:
        super().__init__(f"{status.decode()}: {body[:300].decode(errors='replace')}")


async def _head(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return head.split(b" ", 2)[1], head


async def _chunks(reader: asyncio.StreamReader):  # noqa: ANN202 -- an async generator
    while True:
        size = int((await reader.readline()).strip() or b"0", 16)
        part = await reader.readexactly(size)
        await reader.readexactly(2)
        if not size:
            return
        yield part


async def hammer(
    target: Target, clients: int, *, requests: int = 0, duration_s: float = 0
) -> Result:
    """Ask with so many clients at once, for a number of requests or a time."""
    request = target.request(stream=False)
    latencies: list[float] = []
    asked = failed = 0
    errors: list[str] = []
    began = time.perf_counter()

    async def client() -> None:
        nonlocal asked, failed
        connection = Connection(target)
        while asked < requests or time.perf_counter() - began < duration_s:
            asked += 1
            start = time.perf_counter()
            try:
                async with asyncio.timeout(LIMIT_S):
                    await connection.ask(request)
            except (OSError, Refused, EOFError, TimeoutError) as error:
                failed += 1
                errors.append(repr(error))
                connection.close()
            else:
                latencies.append((time.perf_counter() - start) * 1000)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    for text in errors[:3]:
        print("   ", text)
    return Result(asked, failed, time.perf_counter() - began, latencies)


def require_clean(body: bytes, words: int) -> None:
    """Check that a stream came whole and ended by itself."""
    found = body.count(b"word ")
    if found != words or b"data: [DONE]" not in body:
        raise Refused(b"cut", f"{found} words …".encode() + body[-200:])


async def stream(
    target: Target, clients: int, words: int, *, duration_s: float
) -> Result:
    """Follow streams with so many clients at once; begin no new one past the time."""
    request = target.request(stream=True)
    firsts: list[float] = []
    asked = failed = 0
    errors: list[str] = []
    began = time.perf_counter()

    async def client(number: int) -> None:
        nonlocal asked, failed
        connection = Connection(target)
        await asyncio.sleep(number / clients)  # not all in one moment
        while time.perf_counter() - began < duration_s:
            asked += 1
            try:
                async with asyncio.timeout(LIMIT_S):
                    first, body = await connection.follow(request)
                require_clean(body, words)
            except (OSError, Refused, EOFError, TimeoutError) as error:
                failed += 1
                errors.append(repr(error))
                connection.close()
            else:
                firsts.append(first)
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    for text in errors[:3]:
        print("   ", text)
    return Result(asked, failed, time.perf_counter() - began, firsts)
