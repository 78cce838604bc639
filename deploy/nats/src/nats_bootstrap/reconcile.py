"""
Keeps NATS as the topology wants it: at start, on a timer, after a wipe, on a bell.

Every pass is whole and idempotent, so it does not matter which of them is lost. When
the gateway does not answer, the tenants that the users' file names stay.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nats.js import JetStreamContext

from contracts.delivery import Nothing
from contracts.subjects import RECONCILE, TENANTS, Service
from contracts.tenants import ReconcileReport, Tenants
from determinism import Clock
from faults import Fault, PermanentFault
from messaging.burial import NoSink
from messaging.bus import Delivery
from messaging.nats_bus import NatsBus
from messaging.refusals import Refused
from messaging.subscriptions import Answer, Hear, Runnable
from messaging.waiting import wait_for
from nats_bootstrap.jetstream import ensure_bucket, ensure_durable, ensure_stream
from nats_bootstrap.topology import (
    events_durable_of,
    events_stream_of,
    evt_stream,
    work_durables,
    work_streams,
)
from nats_bootstrap.users import System, UsersFile
from telemetry import get_logger

log = get_logger()

API_TIMEOUT_S: Final = 5.0
ASK_TIMEOUT_S: Final = 2.0
PASS_TIMEOUT_S: Final = 60.0
CONNECTED_POLL_S: Final = 0.1


@dataclass(frozen=True)
class Outward:
    """What a reconciler works on."""

    bus: NatsBus
    system: System
    users: UsersFile
    clock: Clock
    interval_s: float = 3.0


class Reconciler:
    """Makes what is missing, again and again."""

    def __init__(self, outward: Outward) -> None:
        self._outward = outward
        self._bell = asyncio.Event()
        self._lock = asyncio.Lock()
        self._is_reloaded = False
        outward.bus.on_reconnect(self._on_reconnect)

    def runnable(self) -> Runnable:
        """Return what the bootstrap listens to, and its loop."""
        return Runnable(
            service=Service.BOOTSTRAP,
            subscriptions=(
                Answer(RECONCILE, Nothing, self._on_asked, concurrency=8),
                Hear("evt.gateway.tenant.*", Nothing, self._on_tenant_changed),
            ),
            loops=(self.run,),
            sink=NoSink(),
        )

    async def run(self) -> None:
        """Reconcile until cancelled; a pass that fails is tried again."""
        await self._first_connection()
        while True:
            try:
                await self.reconcile()
            except Fault as error:
                log.warning("reconcile_failed", error=error.detail)
            await wait_for(self._bell, self._outward.interval_s, self._outward.clock)
            self._bell.clear()

    async def reconcile(self) -> tuple[str, ...]:
        """
        Make what is missing; return what was done, in words.

        Raises:
            Fault: Something could not be made; the next pass tries again.
        """
        async with self._lock, asyncio.timeout(PASS_TIMEOUT_S):
            jetstream = self._outward.bus.connection.client.jetstream(  # pyright: ignore[reportUnknownMemberType]
                timeout=API_TIMEOUT_S
            )
            changed = await _ensure_platform(jetstream)
            tenants, reloaded = await self._ensure_users()
            changed += reloaded
            for tenant in tenants:
                changed += await _ensure_tenant(jetstream, tenant)
        for each in changed:
            log.info("reconciled", change=each)
        return tuple(changed)

    async def _first_connection(self) -> None:
        """Wait for as long as there has been no server: that is no failure."""
        connection = self._outward.bus.connection
        if not connection.is_connected:
            log.info("waiting_for_nats")
        while not connection.is_connected:
            await self._outward.clock.sleep(CONNECTED_POLL_S)

    async def _ensure_users(self) -> tuple[list[str], list[str]]:
        wanted = await self._tenants()
        names = [name for name, _ in wanted]
        before = self._outward.users.replace(wanted)
        if before is None and self._is_reloaded:
            return names, []
        try:
            await self._outward.system.reload()
        except PermanentFault:
            # The servers keep the old configuration; so must the file.
            if before is not None:
                self._outward.users.write(before)
            raise
        except Fault:
            self._is_reloaded = False
            raise
        self._is_reloaded = True
        return names, [] if before is None else ["rewrote the tenants' users"]

    async def _tenants(self) -> Sequence[tuple[str, str]]:
        try:
            reply = await self._outward.bus.request(
                TENANTS.to(None), Nothing(), Tenants, timeout_s=ASK_TIMEOUT_S
            )
        except (Fault, Refused) as error:
            log.debug("tenants_unknown", error=str(error))
            return self._outward.users.tenants()
        return [(each.tenant, each.nats_password_hash) for each in reply.tenants]

    def _on_reconnect(self) -> None:
        # The server may have lost its store, or started from an older file.
        self._is_reloaded = False
        self._bell.set()

    async def _on_asked(self, _: Nothing, __: Delivery) -> ReconcileReport:
        return ReconcileReport(changed=await self.reconcile())

    async def _on_tenant_changed(self, _: Nothing) -> None:
        self._bell.set()


async def _ensure_platform(jetstream: JetStreamContext) -> list[str]:
    done = [await ensure_stream(jetstream, each) for each in work_streams()]
    done.append(await ensure_stream(jetstream, evt_stream()))
    done.append(await ensure_bucket(jetstream))
    done += [await ensure_durable(jetstream, each) for each in work_durables()]
    return [each for each in done if each is not None]


async def _ensure_tenant(jetstream: JetStreamContext, tenant: str) -> list[str]:
    done = [
        await ensure_stream(jetstream, events_stream_of(tenant)),
        await ensure_durable(jetstream, events_durable_of(tenant)),
    ]
    return [each for each in done if each is not None]
