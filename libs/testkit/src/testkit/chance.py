"""Draws of a simulation: decided by seed, key and count, not by who asks first."""

import hashlib
from collections import Counter


class Chance:
    """
    Numbers from [0, 1) that a seed repeats.

    Each key has its own sequence, so that a draw more in one place moves nothing
    elsewhere and a failing seed stays comparable while the code changes.
    """

    def __init__(self, seed: int) -> None:
        self._seed = str(seed)
        self._counts: Counter[str] = Counter()

    def draw(self, *key: str) -> float:
        """Return the key's next number."""
        name = "\x1f".join(key)
        self._counts[name] += 1
        text = f"{self._seed}\x1f{name}\x1f{self._counts[name]}"
        digest = hashlib.blake2b(text.encode(), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2**56

    def happens(self, probability: float, *key: str) -> bool:
        """Tell whether something of this probability happens now."""
        return probability > 0 and self.draw(*key) < probability

    def pick(self, count: int, *key: str) -> int:
        """Return an index below ``count``."""
        return int(self.draw(*key) * count)
