"""The simulation repeats itself, passes, and finds planted bugs."""

import os
import subprocess
import sys

import pytest

from testkit.plants import Plant
from testkit.simulate import simulate

PROGRAM = """
from testkit.simulate import simulate
for seed in (2, 3):
    print(simulate(seed).digest)
"""


def test_equal_seeds_make_equal_runs_in_any_process() -> None:
    """A seed repeats everything that happened, whatever Python hashes strings by."""
    told = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout.splitlines()
        for hashing in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(set(told[0])) == 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("plant", list(Plant))
def test_planted_bugs_are_found(plant: Plant) -> None:
    """Each bug of the delivery path is found within a few seeds."""
    assert any(simulate(seed, plant).findings for seed in range(1, 25))
