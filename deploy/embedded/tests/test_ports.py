"""Ports: the usual one when it is free, the next one when it is not."""

import socket
from collections.abc import Generator
from pathlib import Path

import pytest

from contracts.subjects import Service
from embedded import ports
from embedded.ports import Ports
from embedded.stack import make_plan


@pytest.fixture
def taken() -> Generator[int]:
    """Return a port that a server listens on."""
    with socket.create_server((ports.HOST, 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def held(tmp_path: Path) -> Generator[Ports]:
    """Hold ports in a folder of the test's own."""
    with Ports(tmp_path / "ports") as found:
        yield found


def test_a_taken_port_is_stepped_over(taken: int, held: Ports) -> None:
    """The next one is taken; a port that this run has picked counts as taken too."""
    found = held.pick(taken)
    assert taken < found < taken + ports.STEPS_MAX
    assert ports.is_free(found)
    assert held.pick(taken) > found


def test_a_port_is_held_while_nobody_listens(taken: int, tmp_path: Path) -> None:
    """A service that has just died keeps its port from other platforms' services."""
    folder = tmp_path / "ports"
    with Ports(folder) as first, Ports(folder) as second:
        mine = first.pick(taken)
        assert ports.is_free(mine)
        assert second.pick(taken) > mine
    with Ports(folder) as third:
        assert third.pick(taken) == mine


def test_no_free_port_says_where_it_looked(taken: int, held: Ports) -> None:
    """An error names the range instead of trying for ever."""
    with pytest.raises(ports.NoFreePort, match=f"from {taken} to"):
        _ = [held.pick(taken) for _ in range(ports.STEPS_MAX)]


def test_a_plan_gives_no_port_twice(held: Ports) -> None:
    """Three replicas of everything, each with its own name and ports."""
    plan = make_plan(3, held)
    used = [plan.nats_port, plan.monitor_port, plan.sandbox_port]
    for replica in plan.replicas:
        used += [replica.face_port, *([replica.api_port] if replica.api_port else [])]
    assert len(used) == len(set(used)) == 3 + 15 + 3
    assert len({replica.name for replica in plan.replicas}) == 15
    gateways = [r for r in plan.replicas if r.service is Service.GATEWAY]
    assert plan.gateway_url == f"http://127.0.0.1:{gateways[0].api_port}"
