"""
Platforms of one machine start one after the other.

Ports are chosen while they are free and taken a moment later; two platforms that
start together would choose the same ones, and one would talk to the other's gateway.
"""

import fcntl
import os
import tempfile
from io import FileIO
from pathlib import Path
from typing import Final

from determinism import Clock

LOCK: Final = Path(tempfile.gettempdir()) / "digital-employee-start.lock"
WAIT_LIMIT_S: Final = 120.0
POLL_S: Final = 0.1
SHARED: Final = 0o666


async def take_turn(clock: Clock, path: Path = LOCK) -> FileIO:
    """
    Wait until no other platform is starting.

    Returns:
        An open file; closing it lets the next one start. The kernel closes it
        when this process dies.

    Raises:
        RuntimeError: Another platform has been starting for two minutes.
    """
    turn = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, SHARED), "r+")
    limit = clock.monotonic() + WAIT_LIMIT_S
    while True:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() > limit:
                turn.close()
                message = f"another platform is starting for long; see {path}"
                raise RuntimeError(message) from None
            await clock.sleep(POLL_S)
        else:
            return turn
