"""The composition root: names every part, wires the routes, serves until told."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from aiohttp import web

from sandbox.call import Latency
from sandbox.control import Control
from sandbox.ledger import Ledger
from sandbox.limits import Limits
from sandbox.prefix_cache import PrefixCache
from sandbox.reports import Reports
from sandbox.settings import Settings
from sandbox.vendor import Vendor

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
SHUTDOWN_S: Final = 2.0
BACKLOG: Final = 1024


def make_vendor(settings: Settings) -> Vendor:
    """Build the vendor with its ledger, limits and cache."""
    return Vendor(
        ledger=Ledger(settings.ledger),
        limits=Limits(settings.requests_per_minute, settings.tokens_per_minute),
        cache=PrefixCache(enabled=settings.cache),
        key=settings.key,
        latency=Latency(settings.latency_ms, settings.token_ms),
    )


def make_application(vendor: Vendor) -> web.Application:
    """Wire the routes."""
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    control, reports = Control(vendor), Reports(vendor)
    router = application.router
    router.add_post("/v1/chat/completions", vendor.chat_completions)
    router.add_post("/v1/embeddings", vendor.embeddings)
    router.add_post("/v1/messages", vendor.messages)
    router.add_post("/v1/messages/count_tokens", vendor.count_tokens)
    router.add_get("/v1/models", vendor.list_models)
    router.add_get("/v1/models/{model}", vendor.show_model)
    usage = "/v1/organization/usage"
    router.add_get(f"{usage}/completions", reports.completions)
    router.add_get(f"{usage}/embeddings", reports.embeddings)
    router.add_get("/v1/organizations/usage_report/messages", reports.messages)
    router.add_route("*", "/v1/{rest:.*}", vendor.unknown)
    router.add_get("/health", control.health)
    router.add_get("/sandbox/open", control.open_calls)
    router.add_get("/sandbox/ledger", control.ledger)
    router.add_delete("/sandbox/ledger", control.clear_ledger)
    router.add_put("/sandbox/faults", control.set_faults)
    router.add_put("/sandbox/cache", control.set_cache)
    router.add_put("/sandbox/limits", control.set_limits)
    router.add_put("/sandbox/latency", control.set_latency)
    return application


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[int]:
    """Serve while the block runs; yields the port."""
    vendor = make_vendor(settings)
    runner = web.AppRunner(
        make_application(vendor),
        handler_cancellation=True,  # a client that hangs up ends its call
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG)
        await site.start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()
        vendor.ledger.close()


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then end the open calls and stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings) as port:
        sys.stdout.write(f"sandbox vendor on http://{settings.host}:{port}\n")
        sys.stdout.flush()
        if settings.port_file is not None:
            _write_port(settings.port_file, port)
        await stop.wait()


def _write_port(path: Path, port: int) -> None:
    """Write and rename, so that a reader never sees half a number."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(f"{port}\n", encoding="utf-8")
    draft.replace(path)
