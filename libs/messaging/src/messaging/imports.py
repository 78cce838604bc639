"""
What a process imports lives as long as it does, so it is never searched for garbage.

Without this the collector walks the same hundred thousand objects again and again:
a fifth of a service's start, and later a pause of nearly a tenth of a second for
whichever request is under way. What lives on are the objects of requests in progress,
so the collector also waits for more of them than Python's default of 700: with that,
about a tenth of ai-broker's CPU under load was spent on finding nothing.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

YOUNG_MAX: Final = 10_000
"""New objects that outlive their use, before they are looked at."""


@contextmanager
def kept_for_life() -> Generator[None]:
    """Import inside this; whatever exists at its end is out of the collector's way."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(YOUNG_MAX, 20, 50)
        gc.enable()
