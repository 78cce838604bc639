"""
What every bus promises; the real and the simulated one pass the same tests.

Subclass ``BusSuite`` in a test module and lend a fixture ``world``: a ``BusWorld``,
which makes buses on one network.
"""

from testkit.bus_bells import BellPromises
from testkit.bus_frames import FramePromises
from testkit.bus_requests import RequestPromises
from testkit.bus_work import WorkPromises
from testkit.bus_world import BusWorld

__all__ = ["BusSuite", "BusWorld"]


class BusSuite(WorkPromises, RequestPromises, BellPromises, FramePromises):
    """Everything that every bus promises."""
