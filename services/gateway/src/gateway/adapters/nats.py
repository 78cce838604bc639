"""
The other services over the bus.

``Bus`` already has the shape of ``ports.Peers``; what this file adds is what
else the gateway keeps for NATS: the hash of a tenant's password.
"""

from typing import Final

import bcrypt

# The secret has 256 random bits: the lowest cost guards as well as any, and
# nats-server pays it on every connect.
ROUNDS: Final = 4


def hash_password(password: str) -> str:
    """Return the bcrypt hash that nats-server reads."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
