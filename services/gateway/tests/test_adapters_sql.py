"""The store on SQLite and PostgreSQL: migrations, keys, and two replicas at once."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway_world import BODY, ScriptedBus
from sqlalchemy import select

from contracts.tenants import Tenant
from determinism import SeededIds, SystemClock
from gateway.adapters.nats import hash_password
from gateway.adapters.sql import SqlStore
from gateway.adapters.tables import SHARED, GatewayTable
from gateway.domain.admission import TaskRequest
from gateway.domain.keys import ApiKey, Principal, Role
from gateway.handlers.tasks import submit_task
from gateway.ports import Deps
from persistence.database import Database
from persistence.migrations import differences

NOW = datetime(2026, 11, 23, 12, 0, 0, 123_456, tzinfo=UTC)
REQUEST = TaskRequest.model_validate(BODY)
ACME = Principal("key_1", Role.TENANT, "acme")
KEY = ApiKey("key_1", Role.TENANT, "acme", "first", "0" * 64, NOW, NOW, None, 60)


def store_on(database: Database, woken: list[str] | None = None) -> SqlStore:
    """Return the gateway's store on a database."""

    def wake(ids: Sequence[str]) -> None:
        if woken is not None:
            woken.extend(ids)

    def carrier() -> Mapping[str, str]:
        return {"traceparent": "00-1-2-01"}

    return SqlStore(database, SystemClock(), wake, carrier)


def deps_on(database: Database) -> Deps:
    """Return the handlers' dependencies on a database."""
    return Deps(
        store=store_on(database),
        peers=ScriptedBus(),
        clock=SystemClock(),
        ids=SeededIds(1),
        hash_password=hash_password,
        nats_url="nats://x",
    )


async def test_migrations_build_what_the_tables_declare(
    databases: tuple[Database, Database],
) -> None:
    """The schema of a migrated store is the one that the code was written for."""
    found = await databases[0].read(
        lambda conn: differences(conn, GatewayTable.metadata)
    )
    assert found == []


async def test_two_gateways_raced_with_one_key_make_one_task(
    databases: tuple[Database, Database],
) -> None:
    """The loser of every race gets the winner's task; nobody gets an error."""
    deps = [deps_on(each) for each in databases]
    for number in range(10):
        accepted = await asyncio.gather(
            *(submit_task(REQUEST, ACME, f"k{number}", each) for each in deps * 4)
        )
        assert len({each.task_id for each in accepted}) == 1
        assert sum(each.is_new for each in accepted) == 1
    owed = await databases[0].read(
        lambda conn: conn.execute(select(SHARED.outbox.c.message_id)).scalars().all()
    )
    assert len(owed) == 10


async def test_owed_messages_are_committed_with_the_task(
    databases: tuple[Database, Database],
) -> None:
    """What the relay is woken for is on disk, with the trace of the request."""
    woken: list[str] = []
    deps = replace(deps_on(databases[0]), store=store_on(databases[0], woken))
    accepted = await submit_task(REQUEST, ACME, None, deps)
    outbox = SHARED.outbox.c
    (row,) = await databases[1].read(
        lambda conn: conn.execute(select(outbox.message_id, outbox.headers)).all()
    )
    assert woken == [row.message_id] == [f"submit:{accepted.task_id}"]
    assert row.headers == {"traceparent": "00-1-2-01"}


async def test_keys_come_back_as_they_were(
    databases: tuple[Database, Database],
) -> None:
    """Instants to the microsecond; a revocation is seen by the other replica."""
    here, there = (store_on(each) for each in databases)
    await here.run(lambda work: work.add_api_key(KEY))
    assert await there.read(lambda work: work.api_key("key_1")) == KEY
    assert await here.run(lambda work: work.revoke_api_key("key_1", NOW))
    found = await there.read(lambda work: work.api_key("key_1"))
    assert found == replace(KEY, revoked_at=NOW)
    assert not await here.run(lambda work: work.revoke_api_key("nobody", NOW))


async def test_a_key_is_replaced_whole(databases: tuple[Database, Database]) -> None:
    """No part of the key that had the id before stays."""
    store = store_on(databases[0])
    await store.run(lambda work: work.add_api_key(replace(KEY, revoked_at=NOW)))
    fresh = ApiKey(
        "key_1", Role.ADMIN, None, "configured", "1" * 64, NOW + timedelta(days=1)
    )
    await store.run(lambda work: work.put_api_key(fresh))
    assert await store.read(lambda work: work.api_key("key_1")) == fresh


async def test_a_tenants_id_is_taken_once(
    databases: tuple[Database, Database],
) -> None:
    """Two replicas that make one tenant at once make it once."""
    tenant = Tenant(tenant="acme", nats_password_hash="h", created_at=NOW)
    stores = [store_on(each) for each in databases] * 3
    added = await asyncio.gather(
        *(each.run(lambda work: work.add_tenant(tenant)) for each in stores)
    )
    assert sum(added) == 1
    assert list(await stores[0].read(lambda work: work.tenants())) == [tenant]


async def test_a_submission_is_its_tenants_alone(
    databases: tuple[Database, Database],
) -> None:
    """Another tenant's task is as if it were not there."""
    accepted = await submit_task(REQUEST, ACME, "k", deps_on(databases[0]))
    store = store_on(databases[1])
    mine = await store.read(lambda work: work.submission("acme", accepted.task_id))
    assert mine is not None
    assert mine.view.goal == BODY["goal"]
    assert await store.read(lambda w: w.submission("globex", accepted.task_id)) is None
