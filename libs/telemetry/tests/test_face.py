"""The face tells alive from ready, and why not."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry, Gauge

from faults import PermanentFault, TransientFault
from telemetry.face import Face, HttpServer


async def _well() -> None:
    """Pass."""


async def _unwell() -> None:
    raise TransientFault("ping NATS: gone")


async def _stuck() -> None:
    await asyncio.Event().wait()


async def _ready(face: Face) -> tuple[int, dict[str, Any]]:
    status, _, body = await face.answer("/ready")
    return status, orjson.loads(body)


async def test_ready_when_every_check_passes() -> None:
    """A service whose checks all pass says so, by name."""
    status, told = await _ready(Face("gateway", "gw_1", {"nats": _well}))
    assert status == 200
    assert told["status"] == "ready"
    assert told["service"] == "gateway"
    assert told["checks"] == {"nats": {"status": "ok"}}


async def test_not_ready_names_the_failing_check() -> None:
    """One failing or stuck check is 503, and the others are still told."""
    face = Face(
        "gateway",
        "gw_1",
        {"nats": _unwell, "store": _well, "migrations": _stuck},
        check_limit_s=0.05,
    )
    status, told = await _ready(face)
    assert status == 503
    assert told["status"] == "not-ready"
    assert told["checks"]["nats"]["detail"] == "TransientFault: ping NATS: gone"
    assert told["checks"]["store"]["status"] == "ok"
    assert "no answer within" in told["checks"]["migrations"]["detail"]
    status, _, _ = await face.answer("/health")
    assert status == 200


async def test_draining_is_not_ready() -> None:
    """A draining service is alive and takes no new work."""
    face = Face("gateway", "gw_1", {"nats": _well})
    face.drain()
    status, told = await _ready(face)
    assert status == 503
    assert told["status"] == "draining"


async def test_serves_on_a_free_port() -> None:
    """Port 0 becomes a real port, told to who asks, serving all three paths."""
    registry = CollectorRegistry()
    Gauge("streams_open", "Streams.", registry=registry).set(4)
    ports: list[int] = []
    face = Face("gateway", "gw_1", {"nats": _well}, registry)
    async with (
        HttpServer(face, "127.0.0.1", 0, on_listening=ports.append) as server,
        httpx.AsyncClient(base_url=server.url, timeout=5) as client,
    ):
        assert ports == [server.port]
        assert (await client.get("/health")).json()["status"] == "alive"
        assert (await client.get("/ready")).status_code == 200
        metrics = await client.get("/metrics")
        assert "streams_open 4.0" in metrics.text
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.post("/ready")).status_code == 405


async def test_a_taken_port_says_what_to_do() -> None:
    """Whose port is taken learns which setting to change."""
    face = Face("gateway", "gw_1", {})
    async with HttpServer(face, "127.0.0.1", 0) as first:
        with pytest.raises(PermanentFault, match="HTTP_PORT"):
            async with HttpServer(face, "127.0.0.1", first.port):
                pass
