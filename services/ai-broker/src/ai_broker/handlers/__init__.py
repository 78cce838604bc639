"""Use cases: answer a completion once, cancel it, find lost attempts, forget."""

from ai_broker.handlers.cancel import cancel
from ai_broker.handlers.complete import complete
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.sweep import prune, prune_forever, sweep, sweep_forever

__all__ = [
    "Desk",
    "cancel",
    "complete",
    "prune",
    "prune_forever",
    "sweep",
    "sweep_forever",
]
