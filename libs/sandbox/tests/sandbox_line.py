"""A connection to the sandbox without an SDK: what came is seen byte by byte."""

import asyncio
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Heard:
    """What came back from one call, as far as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    broken: bool

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON of each event; the lines are the protocol's own."""
        lines = [line for line in self.body.splitlines() if line.startswith(b"data:")]
        texts = [line.removeprefix(b"data:").strip() for line in lines]
        return [json.loads(text) for text in texts if text != b"[DONE]"]

    # What the vendor writes is JSON of many shapes.
    @property
    def json(self) -> Any:
        """The body of a whole answer."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Line:
    """A connection without an SDK: what was sent is seen byte by byte."""

    control: aiohttp.ClientSession

    async def call(
        self,
        protocol: str,
        fault: str = "",
        *,
        text: str = "count to 40",
        stream: bool = True,
        request_id: str = "",
        **more: Any,
    ) -> Heard:
        """Ask either protocol and read until the end, or as far as it goes."""
        path, model = "/v1/chat/completions", "sandbox-small"
        body: dict[str, Any] = {"stream": stream}
        if protocol == "anthropic":
            path, model = "/v1/messages", "sandbox-claude"
            body["max_tokens"] = 4000
        elif stream:
            body["stream_options"] = {"include_usage": True}
        body |= {"model": model, "messages": [{"role": "user", "content": text}]}
        headers = {"authorization": "Bearer any", "x-client-request-id": request_id}
        if protocol == "anthropic":
            headers["anthropic-version"] = "2023-06-01"
        if fault:
            headers["x-sandbox-fault"] = fault
        return await self.post(path, body | more, headers)

    async def post(
        self, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> Heard:
        """Send a body and read until the end, or as far as it goes."""
        got = bytearray()
        try:
            data = io.BytesIO(json.dumps(body).encode())
            headers = {"content-type": "application/json", **headers}
            async with self.control.post(path, data=data, headers=headers) as answer:
                try:
                    async for part in answer.content.iter_any():
                        got += part
                except aiohttp.ClientError:
                    return Heard(answer.status, answer.headers, bytes(got), broken=True)
                return Heard(answer.status, answer.headers, bytes(got), broken=False)
        except aiohttp.ClientError:
            return Heard(0, {}, b"", broken=True)

    async def faults(self, *rules: dict[str, Any]) -> None:
        """Put these rules in force."""
        async with self.control.put("/sandbox/faults", json=list(rules)) as answer:
            assert answer.status == 200, await answer.text()

    async def rows(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until that many calls have ended and return their rows."""
        async with asyncio.timeout(10):
            while True:
                async with self.control.get("/sandbox/ledger?limit=10000") as answer:
                    rows = (await answer.json())["rows"]
                if len(rows) >= count:
                    return rows
