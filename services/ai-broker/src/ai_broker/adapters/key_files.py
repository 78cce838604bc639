"""
Vendor keys in files: ``OPENAI_API_KEY_FILE=/run/secrets/openai``.

A mounted secret is replaced under a running process, so a file is looked at before
each call and read again when it has changed. One that vanishes or becomes empty later
leaves the last key in force.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import telemetry
from ai_broker.domain.catalogue import Catalogue

SUFFIX: Final = "_FILE"
BYTES_MAX: Final = 4_096

log = telemetry.get_logger()

_Stamp = tuple[int, int, int]


class KeyFile:
    """
    A file that holds one key.

    Args:
        path: Where it is.

    Raises:
        ValueError: It cannot be read, is empty or is too long for a key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._stamp = self._look()
            self._key = self._read()
        except OSError as cause:
            raise ValueError(f"{path}: the vendor key cannot be read") from cause

    def __repr__(self) -> str:
        """Return a text without the key."""
        return f"KeyFile({self._path})"

    def key(self) -> str:
        """Return the key that the file holds now."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._key, self._stamp = self._read(), stamp
        except (OSError, ValueError) as cause:
            log.warning(
                "vendor_key_file_kept", path=str(self._path), error=type(cause).__name__
            )
        return self._key

    def _look(self) -> _Stamp:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> str:
        with self._path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise ValueError(f"{self._path}: larger than a vendor key can be")
        key = content.decode("ascii", "replace").strip()
        if not key or not key.isprintable() or "\N{REPLACEMENT CHARACTER}" in key:
            raise ValueError(f"{self._path}: holds no vendor key, one line of ASCII")
        return key


def find_key_files(
    catalogue: Catalogue, environment: Mapping[str, str]
) -> dict[str, KeyFile]:
    """
    Return the key files that the environment names, by the variable they stand for.

    Raises:
        ValueError: A file holds no key, or its variable is set as well.
    """
    found: dict[str, KeyFile] = {}
    for name in {name for vendor in catalogue.vendors for name in vendor.key_envs}:
        path = environment.get(name + SUFFIX)
        if not path:
            continue
        if environment.get(name):
            raise ValueError(f"{name} and {name}{SUFFIX} are both set: set one")
        found[name] = KeyFile(Path(path))
    return found
