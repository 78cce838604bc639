"""Free ports: the usual one when it is free, the one after it when not."""

import socket
from collections.abc import Iterable
from typing import Final

HOST: Final = "127.0.0.1"
STEPS_MAX: Final = 200


class NoFreePort(RuntimeError):
    """Every port that was tried is taken."""


def pick(wanted: int, taken: Iterable[int] = ()) -> int:
    """
    Return the first free port from ``wanted`` upwards.

    Args:
        wanted: Where to begin.
        taken: Ports that this run has given away already.

    Raises:
        NoFreePort: Two hundred in a row are taken.
    """
    given = set(taken)
    for port in range(wanted, wanted + STEPS_MAX):
        if port not in given and is_free(port):
            return port
    message = f"no free port from {wanted} to {wanted + STEPS_MAX - 1} on {HOST}"
    raise NoFreePort(message)


def is_free(port: int) -> bool:
    """Tell whether a server could listen there now."""
    with socket.socket() as probe:
        # Without this a port in TIME_WAIT, which a server can take, looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
