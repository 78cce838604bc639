"""Use cases: answer a completion once, cancel it, find lost attempts, keep keys."""

from ai_broker.handlers.admission import admit
from ai_broker.handlers.cancel import cancel
from ai_broker.handlers.complete import complete
from ai_broker.handlers.credentials import (
    list_credentials,
    put_credential,
    remove_credential,
    rewrap,
    rewrap_forever,
)
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.equip import deps_for, offered
from ai_broker.handlers.rating import keep_places_forever, refresh_rates_forever
from ai_broker.handlers.refresh import refresh_forever
from ai_broker.handlers.sweep import prune, prune_forever, sweep, sweep_forever
from ai_broker.handlers.telling import tell, tell_forever
from ai_broker.handlers.vendors import check_vendor, list_vendors

__all__ = [
    "Desk",
    "admit",
    "cancel",
    "check_vendor",
    "complete",
    "deps_for",
    "keep_places_forever",
    "list_credentials",
    "list_vendors",
    "offered",
    "prune",
    "prune_forever",
    "put_credential",
    "refresh_forever",
    "refresh_rates_forever",
    "remove_credential",
    "rewrap",
    "rewrap_forever",
    "sweep",
    "sweep_forever",
    "tell",
    "tell_forever",
]
