"""Passwords of the embedded platform: made once, readable by their owner alone."""

from collections.abc import Mapping

from determinism import IdSource
from embedded.state import State, read_json, write_json
from nats_bootstrap.topology import ALL_USERS

ADMIN_KEY = "admin_key"
KEK = "kek"
"""Seals tenants' own vendor keys: whoever deletes it makes them unreadable."""


def load_secrets(state: State, ids: IdSource) -> Mapping[str, str]:
    """Return every NATS user's password, the admin key and the key-encryption key."""
    known = read_json(state.secrets) or {}
    secrets = {name: known.get(name) or ids.secret() for name in ALL_USERS}
    secrets[ADMIN_KEY] = known.get(ADMIN_KEY) or f"de_admin_{ids.secret()}"
    secrets[KEK] = known.get(KEK) or ids.secret()
    if secrets != known:
        write_json(state.secrets, secrets)
    return secrets
