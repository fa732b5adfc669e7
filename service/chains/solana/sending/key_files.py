"""Writes a new key to a file that only its owner can read."""

import json
import os
from pathlib import Path

from solders.keypair import Keypair

from service.chains.solana.sending.core_dumps import forbid_core_dumps


def write_new_key(file: Path) -> str:
    """Make a key pair, write it to a new file, and return its public key.

    The file has the form of the tools of Solana: a JSON array of 64 bytes. It is on the disk when this
    returns, since money may be sent to the key as soon as it is known.

    Raises:
        FileExistsError: There is such a file, or a link: a key is never overwritten.
        OSError: The file cannot be written; then there is none.
    """
    forbid_core_dumps()
    keys = Keypair()
    write_key_file(file, bytes(keys))
    return str(keys.pubkey())


def write_key_file(file: Path, keys: bytes) -> None:
    """Write the 64 bytes of a key pair to a new file with the mode 0600.

    Raises:
        FileExistsError: There is such a file, or a link.
        OSError: The file cannot be written; then there is none.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as opened:
            # Whatever the umask takes away: its owner must be able to read it.
            os.fchmod(opened.fileno(), 0o600)
            json.dump(list(keys), opened)
            opened.flush()
            os.fsync(opened.fileno())
        _sync_folder(file.parent)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
