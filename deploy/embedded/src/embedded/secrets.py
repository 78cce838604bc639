"""Passwords of the embedded platform: made once, readable by their owner alone."""

from collections.abc import Mapping

from contracts.subjects import Service
from determinism import IdSource
from embedded.stack import SERVICES, SYS_USER
from embedded.state import State, read_json, write_json

USERS = (*(service.value for service in SERVICES), Service.BOOTSTRAP.value, SYS_USER)


def load_secrets(state: State, ids: IdSource) -> Mapping[str, str]:
    """Return every NATS user's password and the admin key."""
    known = read_json(state.secrets) or {}
    secrets = {name: known.get(name) or ids.secret() for name in USERS}
    secrets["admin_key"] = known.get("admin_key") or f"de_admin_{ids.secret()}"
    if secrets != known:
        write_json(state.secrets, secrets)
    return secrets
