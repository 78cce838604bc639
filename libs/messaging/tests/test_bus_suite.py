"""The real bus keeps every promise of the suite that the simulated one passes."""

from testkit.bus_suite import BusSuite


class TestNatsBus(BusSuite):
    """``NatsBus`` on a real server."""
