"""A tenant's own key is sealed, used for its questions alone, and never told."""

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest
from broker_world import DONE, GOOD, LIMITED, ScriptedVendor, World, play
from sqlalchemy import select, update

from ai_broker.adapters.tables import VENDOR_CREDENTIAL
from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.handlers import (
    Desk,
    deps_for,
    list_credentials,
    put_credential,
    remove_credential,
    rewrap,
)
from contracts.credentials import (
    CredentialInfo,
    ListCredentials,
    PutCredential,
    RemoveCredential,
)
from contracts.problems import Code
from messaging.refusals import Refused

KEY = "sk-tenant-0123456789abcdef"
NEW_KEK = bytes(range(32))


async def put(
    desk: Desk, key: str = KEY, tenant: str = "acme", vendor: str = "third"
) -> CredentialInfo:
    """Put a key as the gateway does."""
    asked = {"tenant": tenant, "vendor": vendor, "key": key}
    return await put_credential(PutCredential.model_validate(asked), desk.deps)


async def refusal(awaited: Awaitable[object]) -> tuple[Code, str]:
    """Give the code and the text of a refusal."""
    with pytest.raises(Refused) as caught:
        await awaited
    found = caught.value.envelope.problem
    return found.code, found.detail


async def rows(world: World) -> list[Any]:
    """Read what is stored."""
    return await world.database.read(
        lambda conn: list(conn.execute(select(VENDOR_CREDENTIAL)))
    )


def test_a_tenant_s_own_key_is_used_for_its_questions() -> None:
    """A vendor that the platform has no key for answers this tenant, and is flagged."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.keyed[KEY] = ScriptedVendor(world.clock, [[*GOOD, DONE]])
        before = await world.ask(desk, completion_id="0", model="third/model-3")
        assert before.code is Code.MODEL_UNKNOWN
        await put(desk)
        sink = await world.ask(desk, completion_id="1", model="third/model-3")
        assert sink.text == "Good day"
        other = await world.ask(desk, tenant="globex", model="third/model-3")
        assert other.code is Code.MODEL_UNKNOWN
        (record,) = await world.ledger()
        assert record.own_key
        assert record.vendor == "third"
        listed = (await deps_for(desk.deps, "acme")).menu.listing()
        assert "third/model-3" in {each.id for each in listed.models}

    play(scene)


def test_an_own_key_goes_before_the_platform_s() -> None:
    """Where both have a key the tenant's is used; the failover is the platform's."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        own = ScriptedVendor(world.clock, [[LIMITED], [LIMITED], [LIMITED]])
        world.keyed[KEY] = own
        world.second.scripts = [[*GOOD, DONE]]
        await put(desk, vendor="first")
        assert (await world.ask(desk, model="smart")).text == "Good day"
        assert world.first.attempts == []
        flags = [(each.vendor, each.own_key) for each in await world.ledger()]
        assert flags[0] == ("first", True)
        assert flags[-1] == ("second", False)

    play(scene)


def test_what_a_tenant_s_key_meets_is_that_tenant_s_alone() -> None:
    """An exhausted account of one tenant closes the vendor to nobody else."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        spent = Failure(FailureKind.REFUSED, "no money", 429, "insufficient_quota")
        world.keyed[KEY] = ScriptedVendor(world.clock, [[spent]])
        world.first.scripts = [[*GOOD, DONE]]
        await put(desk, vendor="first")
        for name in ("1", "2"):
            refused = await world.ask(desk, completion_id=name)
            assert refused.code is not Code.MODEL_UNKNOWN
        assert len(world.keyed[KEY].attempts) == 1
        other = await world.ask(desk, completion_id="3", tenant="globex")
        assert other.text == "Good day"
        assert len(world.first.attempts) == 1

    play(scene)


def test_a_removed_key_is_used_no_more() -> None:
    """Here at once, at other replicas after some seconds; removing twice is refused."""

    async def scene(world: World) -> None:
        here, elsewhere = world.replica("a"), world.replica("b")
        world.keyed[KEY] = ScriptedVendor(world.clock, [[*GOOD, DONE]] * 3)
        await put(here)
        for name, desk in (("1", here), ("2", elsewhere)):
            sink = await world.ask(desk, completion_id=name, model="third/model-3")
            assert sink.text
        gone = RemoveCredential(tenant="acme", vendor="third")
        await remove_credential(gone, here.deps)
        code, _ = await refusal(remove_credential(gone, here.deps))
        assert code is Code.NOT_FOUND
        sink = await world.ask(here, completion_id="3", model="third/model-3")
        assert sink.code is Code.MODEL_UNKNOWN
        await world.clock.sleep(6)
        deadline = world.clock.now() + timedelta(seconds=60)
        sink = await world.ask(
            elsewhere, completion_id="4", model="third/model-3", deadline=deadline
        )
        assert sink.code is Code.MODEL_UNKNOWN
        assert len(world.pool) == 0

    play(scene)


def test_a_list_tells_of_keys_what_does_not_give_them_away() -> None:
    """Vendor, time, fingerprint and tail; of a short key not even the tail."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        made = await put(desk)
        await put(desk, key="short-key-1", vendor="first")
        page = await list_credentials(ListCredentials(tenant="acme"), desk.deps)
        assert [each.vendor for each in page.credentials] == ["first", "third"]
        assert page.credentials[1] == made
        assert made.last4 == KEY[-4:]
        assert page.credentials[0].last4 is None
        assert made.fingerprint != page.credentials[0].fingerprint
        assert KEY.encode() not in page.encode() + made.encode()
        assert KEY.encode() not in b"".join(row.sealed for row in await rows(world))
        other = await list_credentials(ListCredentials(tenant="globex"), desk.deps)
        assert other.credentials == ()

    play(scene)


def test_what_cannot_be_kept_is_refused_saying_why() -> None:
    """No KEK, an unknown vendor, a key that no header can carry: never quoted."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        code, detail = await refusal(put(desk, vendor="fourth"))
        assert code is Code.NOT_FOUND
        assert "first, second, third" in detail
        code, detail = await refusal(put(desk, key="sk-zzzz\nbreak"))
        assert code is Code.INVALID
        assert "zzzz" not in detail
        world.keks = []
        code, detail = await refusal(put(world.replica("b")))
        assert code is Code.FORBIDDEN
        assert "AI_BROKER_KEK" in detail
        assert await rows(world) == []

    play(scene)


def test_a_key_that_cannot_be_opened_is_not_replaced_by_the_platform_s() -> None:
    """Under a wrong KEK the tenant hears what to do, and other vendors answer."""

    async def scene(world: World) -> None:
        await put(world.replica("a"), vendor="first")
        world.keks = [NEW_KEK]
        desk = world.replica("b")
        refused = await world.ask(desk, completion_id="1")
        assert refused.code is Code.INVALID
        assert "put it again" in refused.failed.error.problem.detail
        world.second.scripts = [[*GOOD, DONE]]
        sink = await world.ask(desk, completion_id="2", model="smart")
        assert sink.finished.completion.vendor == "second"
        assert world.first.attempts == []

    play(scene)


def test_a_row_moved_to_another_tenant_opens_for_nobody() -> None:
    """Whoever can write to the store still cannot spend a tenant's key."""

    async def scene(world: World) -> None:
        await put(world.replica("a"))
        world.keyed[KEY] = ScriptedVendor(world.clock, [[*GOOD, DONE]])
        move = update(VENDOR_CREDENTIAL).values(tenant="globex")
        await world.database.run(lambda conn: conn.execute(move))
        sink = await world.ask(
            world.replica("b"), tenant="globex", model="third/model-3"
        )
        assert sink.code is Code.INVALID
        assert world.keyed[KEY].attempts == []

    play(scene)


def test_a_rotation_ends_by_itself() -> None:
    """Every key is sealed under the first KEK, in batches; then the old one may go."""

    async def scene(world: World) -> None:
        old = world.keks
        desk = world.replica("a")
        for number in range(205):
            await put(desk, tenant=f"tenant-{number}")
        world.keks = [NEW_KEK, *old]
        rotating = world.replica("b")
        assert await rewrap(rotating.deps) == 205
        assert await rewrap(rotating.deps) == 0
        world.keks = [NEW_KEK]
        after = world.replica("c")
        world.keyed[KEY] = ScriptedVendor(world.clock, [[*GOOD, DONE]])
        sink = await world.ask(after, tenant="tenant-204", model="third/model-3")
        assert sink.text == "Good day"

    play(scene)


def test_a_rotation_passes_over_what_it_cannot_open() -> None:
    """One lost key does not keep the others from being sealed anew."""

    async def scene(world: World) -> None:
        old, lost = world.keks, [bytes(range(2, 34))]
        world.keks = lost
        await put(world.replica("lost"), tenant="a")
        world.keks = old
        await put(world.replica("a"), tenant="b")
        world.keks = [NEW_KEK, *old]
        assert await rewrap(world.replica("b").deps) == 1
        kek_ids = {row.tenant: row.kek_id for row in await rows(world)}
        assert kek_ids["a"] != kek_ids["b"]
        world.keks = []
        assert await rewrap(world.replica("c").deps) == 0

    play(scene)
