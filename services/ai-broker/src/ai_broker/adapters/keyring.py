"""
Sealing with AES-256-GCM under key-encryption keys (KEKs).

The first KEK seals, all of them open; so a rotation is: add the new one last, then put
it first, let ``rewrap`` run, take the old one out. A KEK's id is the start of its
digest, so an operator can tell by a row which one it needs.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ai_broker.domain.credential import Sealed
from determinism import IdSource
from faults import PermanentFault

NONCE_BYTES: Final = 12
ID_DIGITS: Final = 8
_KEK: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class Keyring:
    """
    The KEKs of this deployment.

    Args:
        keks: 32 bytes each, the sealing one first; none seals and opens nothing.
        ids: Where nonces come from.
    """

    def __init__(self, keks: Sequence[bytes], ids: IdSource) -> None:
        self._ids = ids
        self._keys = {_id_of(each): AESGCM(each) for each in keks}
        self._first = _id_of(keks[0]) if keks else None

    def __repr__(self) -> str:
        """Return a text without the keys."""
        return f"Keyring({', '.join(self._keys)})"

    @property
    def kek_id(self) -> str | None:
        """The id of the KEK that seals; None without one."""
        return self._first

    def seal(self, secret: str, bound_to: bytes) -> Sealed:
        """
        Encrypt a text, bound to these bytes.

        Raises:
            PermanentFault: There is no KEK.
        """
        if self._first is None:
            raise PermanentFault("seal a key: no key-encryption key is configured")
        nonce = hashlib.sha256(self._ids.secret().encode()).digest()[:NONCE_BYTES]
        data = self._keys[self._first].encrypt(nonce, secret.encode(), bound_to)
        return Sealed(self._first, nonce + data)

    def unseal(self, sealed: Sealed, bound_to: bytes) -> str:
        """
        Decrypt a text.

        Raises:
            PermanentFault: Its KEK is not here, or it was sealed for something else.
        """
        key = self._keys.get(sealed.kek_id)
        if key is None:
            detail = f"the key-encryption key {sealed.kek_id} is not configured here"
            raise PermanentFault(detail)
        nonce, data = sealed.data[:NONCE_BYTES], sealed.data[NONCE_BYTES:]
        try:
            return key.decrypt(nonce, data, bound_to).decode()
        except (InvalidTag, ValueError) as cause:
            detail = "it was changed, or sealed for another tenant or vendor"
            raise PermanentFault(detail) from cause


def read_keks(text: str) -> list[bytes]:
    """
    Read KEKs, 64 hex digits each, apart by commas, spaces or lines.

    Raises:
        ValueError: One of them is something else; it is not quoted.
    """
    words = re.split(r"[\s,]+", text.strip()) if text.strip() else []
    for number, word in enumerate(words, start=1):
        if _KEK.fullmatch(word) is None:
            raise ValueError(
                f"key-encryption key {number} of {len(words)} is not 64 hex digits: "
                "make one with `openssl rand -hex 32`"
            )
    return [bytes.fromhex(word) for word in words]


def _id_of(kek: bytes) -> str:
    return hashlib.sha256(b"de-kek" + kek).hexdigest()[:ID_DIGITS]
