"""Ids: fresh ones differ, seeded ones repeat, all are safe tokens."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from determinism import IdSource, SeededIds, SystemIds, backoff_s

ID = re.compile(r"task_[0-9a-f]{32}")


@pytest.mark.parametrize("ids", [SystemIds(), SeededIds(1)], ids=["system", "seeded"])
def test_every_source_keeps_the_shapes(ids: IdSource) -> None:
    """Ids are one token, secrets 256 bits, draws below one; none comes twice."""
    made = [ids.new("task") for _ in range(100)]
    secrets = [ids.secret() for _ in range(100)]
    assert all(ID.fullmatch(each) for each in made)
    assert all(re.fullmatch("[0-9a-f]{64}", each) for each in secrets)
    assert len({*made, *secrets}) == 200
    assert all(0 <= ids.uniform() < 1 for _ in range(100))


def test_a_seed_repeats_its_run() -> None:
    """The same seed draws the same; another one does not."""

    def draw(seed: int) -> list[object]:
        ids = SeededIds(seed)
        return [ids.new("a"), ids.secret(), ids.uniform(), ids.new("b")]

    assert draw(4127) == draw(4127)
    assert draw(4127) != draw(4128)


@given(
    attempt=st.integers(-5, 10**9),
    draw=st.floats(0, 1, exclude_max=True),
    first_s=st.floats(0.001, 10),
)
def test_backoff_is_bounded_and_never_zero(
    attempt: int, draw: float, first_s: float
) -> None:
    """Half the wait at least, the cap at most, whatever the attempt."""
    pause_s = backoff_s(attempt, first_s=first_s, cap_s=60, draw=draw)
    assert min(first_s, 60) / 2 <= pause_s <= 60


def test_backoff_doubles() -> None:
    """Each attempt waits twice as long as the one before, up to the cap."""
    waits = [backoff_s(n, first_s=1, cap_s=5, draw=1) for n in range(1, 6)]
    assert waits == [1, 2, 4, 5, 5]
