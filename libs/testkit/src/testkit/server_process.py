"""A server's process that belongs to a test: frozen, ended, and never left behind."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

STOP_TIMEOUT_S: Final = 10.0
PR_SET_PDEATHSIG: Final = 1


class ServerProcess:
    """What the servers of tests have in common: a process that can be frozen."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process's id while it runs."""
        return None if self._process is None else self._process.pid

    def pause(self) -> None:
        """Freeze the process: connections stay, nothing is answered."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, by: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(by)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
        self._process = None


def ending_with_parent(by: signal.Signals) -> Callable[[], None]:
    """
    Return what a child runs before its program: a killed test run leaves none behind.

    Args:
        by: What ends the child when its parent is gone.
    """

    def prepare() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)

    return prepare
