"""
New identifiers; those derived from a business key are in ``contracts.ids``.

Ids are ``<prefix>_<32 hex digits>``: safe as one NATS subject token, in a URL
and in a file name.
"""

import random
import secrets
import uuid
from typing import Protocol


class IdSource(Protocol):
    """Where fresh ids, secrets and draws come from."""

    def new(self, prefix: str) -> str:
        """Return a fresh id, ``<prefix>_<32 hex digits>``."""
        ...

    def secret(self) -> str:
        """Return 256 bits of secret as 64 hex digits."""
        ...

    def uniform(self) -> float:
        """Return a draw from [0, 1)."""
        ...


class SystemIds:
    """Ids from the operating system's entropy."""

    def new(self, prefix: str) -> str:
        """Return a fresh random id."""
        return f"{prefix}_{uuid.uuid4().hex}"

    def secret(self) -> str:
        """Return 256 bits of secret as 64 hex digits."""
        return secrets.token_hex(32)

    def uniform(self) -> float:
        """Return a draw from [0, 1)."""
        return random.random()  # noqa: S311 -- spreads retries, guards nothing


class SeededIds:
    """Ids that a seed repeats; for tests and the simulation only."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 -- repeatable on purpose

    def new(self, prefix: str) -> str:
        """Return the next id of the seeded sequence."""
        return f"{prefix}_{self._random.getrandbits(128):032x}"

    def secret(self) -> str:
        """Return the next 256 bits of the seeded sequence."""
        return f"{self._random.getrandbits(256):064x}"

    def uniform(self) -> float:
        """Return the next draw from [0, 1)."""
        return self._random.random()
