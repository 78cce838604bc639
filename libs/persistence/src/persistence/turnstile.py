"""
Turns between the processes that share one SQLite file.

SQLite's write lock is not fair: a busy writer takes it again within microseconds of
its COMMIT, and a polling one can starve until its timeout. Whoever wants the write
lock first passes this turnstile, and holds it while waiting; so a writer that has
just committed finds it held, and comes after the one that waited.
"""

import fcntl
import os
from collections.abc import Callable


class Turnstile:
    """An advisory lock on a file of its own, beside the store's."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def enter(self, pause: Callable[[], None]) -> None:
        """Take the lock; ``pause`` is called between tries and may raise."""
        while not self._try_enter():
            pause()

    def leave(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, which gives the lock up too."""
        os.close(self._file)

    def _try_enter(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
