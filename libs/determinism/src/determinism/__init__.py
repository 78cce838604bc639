"""
The one door through which time, chance and identity enter the platform.

Every service takes a ``Clock`` and an ``IdSource`` as arguments, so that the
simulation can replay a run from its seed. Only this package may call the
operating system for them.
"""

from determinism.bell import Bell
from determinism.clock import Clock, SystemClock, within
from determinism.ids import IdSource, SeededIds, SystemIds
from determinism.jitter import backoff_s

__all__ = [
    "Bell",
    "Clock",
    "IdSource",
    "SeededIds",
    "SystemClock",
    "SystemIds",
    "backoff_s",
    "within",
]
