"""Which track a message goes to; the only place that adds one to an address."""

from typing import Protocol

from contracts.subjects import Address, Track


class Router(Protocol):
    """Draws the track of a message."""

    def subject(self, address: Address, task_key: str | None) -> str:
        """
        Return the concrete subject.

        Args:
            address: Where to, without a track.
            task_key: What the track is drawn by; the same key, the same track.
        """
        ...


class StableRouter:
    """Sends everything to the stable track: there is no canary yet."""

    def subject(self, address: Address, task_key: str | None) -> str:  # noqa: ARG002 -- Router's shape
        """Return the subject on the stable track."""
        return address.on(Track.STABLE)
