"""
Free ports: the usual one when it is free, the one after it when not.

A port that was chosen stays *held* until its platform ends, by a lock on a small
file: between a service's death and its restart nobody listens there, and another
platform of this machine would take the port and be taken for its owner.
"""

import fcntl
import os
import socket
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Final, Self

HOST: Final = "127.0.0.1"
STEPS_MAX: Final = 400
FOLDER: Final = Path(tempfile.gettempdir()) / "digital-employee-ports"
EVERYONE: Final = 0o777
SHARED: Final = 0o666


class NoFreePort(RuntimeError):
    """Every port that was tried is taken."""


class Ports:
    """
    The ports of one platform, held until it ends.

    The kernel lets them go when this process dies, however it does.

    Args:
        folder: Where the locks are; the same for all platforms of a machine.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._held = ExitStack()
        with _open_to_all():
            folder.mkdir(mode=EVERYONE, exist_ok=True)

    def __enter__(self) -> Self:
        """Hold whatever is picked until the context ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let all ports go."""
        self._held.close()

    def pick(self, wanted: int) -> int:
        """
        Hold and return the first free port from ``wanted`` upwards.

        Raises:
            NoFreePort: Four hundred in a row are taken.
        """
        for port in range(wanted, wanted + STEPS_MAX):
            if is_free(port) and self._hold(port):
                return port
        message = f"no free port from {wanted} to {wanted + STEPS_MAX - 1} on {HOST}"
        raise NoFreePort(message)

    def _hold(self, port: int) -> bool:
        with _open_to_all():
            flags = os.O_RDWR | os.O_CREAT
            lock = FileIO(os.open(self._folder / f"{port}.lock", flags, SHARED), "r+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._held.enter_context(lock)
        return True


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


@contextmanager
def _open_to_all() -> Generator[None]:
    """Make files that another user's platform can lock too."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
