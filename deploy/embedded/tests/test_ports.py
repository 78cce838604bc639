"""Ports: the usual one when it is free, the next one when it is not."""

import socket
from collections.abc import Generator

import pytest

from contracts.subjects import Service
from embedded import ports
from embedded.stack import make_plan


@pytest.fixture
def taken() -> Generator[int]:
    """Return a port that a server listens on."""
    with socket.create_server((ports.HOST, 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_stepped_over(taken: int) -> None:
    """The next one is taken; a port of this run's own plan counts as taken too."""
    found = ports.pick(taken)
    assert taken < found < taken + ports.STEPS_MAX
    assert ports.is_free(found)
    assert ports.pick(taken, [found]) > found


def test_no_free_port_says_where_it_looked(taken: int) -> None:
    """An error names the range instead of trying for ever."""
    given = range(taken, taken + ports.STEPS_MAX)
    with pytest.raises(ports.NoFreePort, match=f"from {taken} to"):
        ports.pick(taken, given)


def test_a_plan_gives_no_port_twice() -> None:
    """Three replicas of everything, each with its own name and ports."""
    plan = make_plan(3)
    used = [plan.nats_port, plan.monitor_port, plan.sandbox_port]
    for replica in plan.replicas:
        used += [replica.face_port, *([replica.api_port] if replica.api_port else [])]
    assert len(used) == len(set(used)) == 3 + 15 + 3
    assert len({replica.name for replica in plan.replicas}) == 15
    gateways = [r for r in plan.replicas if r.service is Service.GATEWAY]
    assert plan.gateway_url == f"http://127.0.0.1:{gateways[0].api_port}"
