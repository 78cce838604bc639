"""A file that is read again when it changes."""

import hashlib
from pathlib import Path
from typing import Final

BYTES_MAX: Final = 4 * 1024 * 1024


class WatchedFile:
    """
    A file, and which version of it has been looked at.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._digest = b""

    def newer(self) -> bytes | None:
        """
        Return the content; None when it is what was looked at before.

        Raises:
            ValueError: It cannot be read; each version says so once.
        """
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            with self.path.open("rb") as file:
                content = file.read(BYTES_MAX + 1)
        except OSError as cause:
            told = self._stamp is None
            self._stamp, self._digest = None, b""
            if told:
                return None
            raise ValueError(f"{self.path}: cannot be read") from cause
        if len(content) > BYTES_MAX:
            raise ValueError(f"{self.path}: larger than {BYTES_MAX} bytes")
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            return None
        self._digest = digest
        return content
