"""Vendors as a tenant or an admin sees them, and checks by the key that counts."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from broker_world import GOOD, MODELS, Act, ScriptedVendor, World, entry, play

from ai_broker.domain.catalogue import Menu
from ai_broker.domain.vendor import Failure, FailureKind, Started
from ai_broker.handlers import Desk, check_vendor, list_vendors
from contracts.problems import Code
from contracts.vendors import (
    BreakerState,
    CheckVendor,
    KeySource,
    ListVendors,
    Reach,
    VendorCheck,
    VendorInfo,
)
from messaging.refusals import Refused

KEY = "sk-tenant-0123456789abcdef"
BROKEN = Failure(FailureKind.REFUSED, "first answered 500", 500)


async def shown(desk: Desk, tenant: str | None) -> dict[str, VendorInfo]:
    """List as the gateway does."""
    page = await list_vendors(ListVendors(tenant=tenant), desk)
    assert page.instance == desk.deps.instance
    return {each.name: each for each in page.vendors}


async def check(desk: Desk, vendor: str, tenant: str | None = None) -> VendorCheck:
    """Check as the gateway does."""
    return await check_vendor(CheckVendor(tenant=tenant, vendor=vendor), desk)


def test_a_model_s_breaker_and_latency_are_shown() -> None:
    """As this replica has met them; what nobody has asked yet shows nothing."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        assert (await shown(desk, None))["first"].models[0].breaker is None
        for number in range(3):
            world.first.scripts = [[1.0 + number, *GOOD]]
            await world.ask(desk, completion_id=f"step_{number}:0")
        seen = (await shown(desk, None))["first"].models[0]
        assert seen.breaker is BreakerState.CLOSED
        assert seen.first_token_s == pytest.approx(2.0, abs=0.1)
        assert (await shown(desk, "acme"))["first"].models[0] == seen
        world.first.scripts, world.first.always = [], [BROKEN]
        for number in range(3, 6):
            await world.ask(desk, completion_id=f"step_{number}:0", **world.within(9))
        assert (await shown(desk, None))["first"].models[0].breaker is BreakerState.OPEN
        assert (await shown(desk, None))["second"].models[0].breaker is None

    play(scene)


def test_a_tenant_s_own_key_is_its_own_view() -> None:
    """It makes a vendor usable and checkable for this tenant alone."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.keyed[KEY] = ScriptedVendor(world.clock, always=[Started(200, "r")])
        await world.put_key(desk, "third", KEY)
        assert (await shown(desk, "acme"))["third"].key is KeySource.OWN
        assert "third" not in await shown(desk, "globex")
        assert "third" not in await shown(desk, None)
        assert (await check(desk, "third", "acme")).reach is Reach.REACHABLE
        with pytest.raises(Refused):
            await check(desk, "third", "globex")

    play(scene)


@pytest.mark.parametrize(
    ("script", "reach", "status", "took_s"),
    [
        ([0.5, Started(200, "r")], Reach.REACHABLE, 200, 0.5),
        ([BROKEN], Reach.FAILING, 500, 0.0),
        ([Failure(FailureKind.REFUSED, "no", 401)], Reach.KEY_REFUSED, 401, 0.0),
        ([Failure(FailureKind.UNREACHED, "gone")], Reach.UNREACHABLE, None, 0.0),
        ([60.0, Started(200, "r")], Reach.UNREACHABLE, None, 4.0),
    ],
)
def test_a_check_tells_what_it_found(
    script: Sequence[Act], reach: Reach, status: int | None, took_s: float
) -> None:
    """Within four seconds, and nothing of it counts for routing or the ledger."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        world.first.scripts = [script]
        found = await check(desk, "first")
        assert (found.vendor, found.reach) == ("first", reach)
        assert found.http_status == status
        assert found.took_s == pytest.approx(took_s, abs=0.01)
        assert (await shown(desk, None))["first"].models[0].breaker is None
        assert await world.ledger() == []

    play(scene)


def test_what_cannot_be_called_is_told_apart_from_what_is_unknown() -> None:
    """The one lacks something and says what; the other is a mistake in the name."""

    async def scene(world: World) -> None:
        desk = world.replica("a")
        lacking = entry("third", MODELS["third"], key_envs=["THIRD_KEY"])
        address = lacking.model_copy(update={"base_url": "https://third.example"})
        menu = Menu(world.entries, {}, unusable=(address,))
        desk.deps = replace(desk.deps, menu=menu)
        found = await check(desk, "third")
        assert found.reach is Reach.UNUSABLE
        assert found.detail == "no key for it is set here: THIRD_KEY"
        assert (found.http_status, found.took_s) == (None, None)
        with pytest.raises(Refused) as caught:
            await check(desk, "forth")
        problem = caught.value.envelope.problem
        assert problem.code is Code.NOT_FOUND
        assert "use one of first, second, third" in problem.detail

    play(scene)
