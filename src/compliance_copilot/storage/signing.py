"""Signatures that outlive the database: Ed25519 over a purpose and a message.

The key is `AUDIT_SIGNING_KEY` (64 hex digits), or in development a file of mode 0600 in DATA_DIR.
A signature for one purpose is none for another.
"""

import os
import secrets
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from compliance_copilot.core.errors import SetupError

KEY_DIGITS = 64
KEY_FILE = "signing.key"


class Signer:
    """One signing key; its public half and a short name for it."""

    def __init__(self, secret: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        self.public_key = self._key.public_key().public_bytes_raw().hex()
        self.key_id = key_id_of(self.public_key)

    def sign(self, purpose: str, message: bytes) -> str:
        """Return the signature in hex."""
        return self._key.sign(_domain(purpose) + message).hex()


def is_signed(public_key: str, purpose: str, message: bytes, signature: str) -> bool:
    """Tell whether the signature is this key's, for this purpose and message."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), _domain(purpose) + message)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_id_of(public_key: str) -> str:
    """Return the short name of a public key: 16 hex digits."""
    return sha256(bytes.fromhex(public_key)).hexdigest()[:16]


def _domain(purpose: str) -> bytes:
    return f"compliance-copilot/{purpose}\n".encode()


def make_key() -> str:
    """Return a new signing key."""
    return secrets.token_hex(KEY_DIGITS // 2)


def open_signer(secret: str | None, folder: Path) -> Signer:
    """Return the signer of a deployment; without a secret, of the key file in the folder.

    Raises SetupError.
    """
    try:
        return Signer(secret if secret is not None else _kept(folder))
    except (OSError, ValueError) as error:
        raise SetupError(
            f"AUDIT_SIGNING_KEY: not a key ({error}); make one with `compliance-copilot audit key`"
            f" or remove {folder / KEY_FILE}."
        ) from error


def _kept(folder: Path) -> str:
    """Read the key file; the first of several processes makes it."""
    file = folder / KEY_FILE
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f"{KEY_FILE}.{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(make_key())
        try:
            os.link(draft, file)  # fails when another was quicker: then theirs holds
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text(encoding="ascii").strip()
