"""Secrets at rest: AES-256-GCM under `SECRETS_KEY`, each bound to its tenant and its name.

A row that is copied to another tenant or another name does not open. Must not enter: what the
secrets are for.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes, token_urlsafe

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance_copilot.core.vocabulary import TenantId

_FORM = b"\x01"
_NAME_BYTES, _NONCE_BYTES = 4, 12
KEY_FILE = "secrets.key"


class UnreadableSecretError(Exception):
    """None of the keys opens it: the key is gone, or it was sealed for another tenant or name."""


class Sealer:
    """Seals under the first of its keys, opens under any: so a key can be replaced."""

    def __init__(self, keys: Sequence[str]) -> None:
        derived = [sha256(b"compliance-copilot secrets\n" + key.encode()).digest() for key in keys]
        self._ciphers = {sha256(key).digest()[:_NAME_BYTES]: AESGCM(key) for key in derived}
        self._first = next(iter(self._ciphers))

    def seal(self, tenant_id: TenantId, name: str, secret: str) -> bytes:
        """Return the secret so that only this tenant's row of this name gives it back."""
        nonce = token_bytes(_NONCE_BYTES)
        bound = _bound(tenant_id, name)
        sealed = self._ciphers[self._first].encrypt(nonce, secret.encode(), bound)
        return _FORM + self._first + nonce + sealed

    def open(self, tenant_id: TenantId, name: str, sealed: bytes) -> str:
        """Return the secret. Raises UnreadableSecretError."""
        start = len(_FORM) + _NAME_BYTES
        cipher = self._ciphers.get(sealed[len(_FORM) : start])
        if cipher is None or not sealed.startswith(_FORM):
            raise UnreadableSecretError
        nonce, text = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, text, _bound(tenant_id, name)).decode()
        except InvalidTag:
            raise UnreadableSecretError from None

    def is_current(self, sealed: bytes) -> bool:
        """Tell whether a secret lies under the first key."""
        return sealed.startswith(_FORM + self._first)


def _bound(tenant_id: TenantId, name: str) -> bytes:
    return f"{tenant_id}\n{name}".encode()


def own_key(folder: Path) -> str:
    """Return the key in a folder that only its owner can read, made when it is not there yet."""
    path = folder / KEY_FILE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder / f"{KEY_FILE}.{os.getpid()}"
    if not path.exists():
        made.unlink(missing_ok=True)
        with os.fdopen(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(token_urlsafe(32))
        try:
            os.link(made, path)  # whole or not at all, and one of several processes wins
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return path.read_text(encoding="ascii")
