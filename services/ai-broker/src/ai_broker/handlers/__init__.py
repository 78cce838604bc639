"""Use cases: answer a completion once, cancel it, list models, find lost attempts."""

from ai_broker.handlers.cancel import cancel
from ai_broker.handlers.complete import complete
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.sweep import sweep, sweep_forever

__all__ = ["Desk", "cancel", "complete", "sweep", "sweep_forever"]
