"""A wallet that is only watched: named by its address or its key, and never signing."""

import json
from pathlib import Path

import pytest
from solders.keypair import Keypair

from service.chains.solana.sending.signer import InvalidSignerError, SignerUnavailableError, sign_message
from service.chains.solana.sending.watched import WatchedWallet, load_watched

KEYS = Keypair.from_seed(bytes(range(32)))
SECRET = str(KEYS)


async def test_it_never_signs() -> None:
    wallet = load_watched(f"address:{KEYS.pubkey()}")
    assert wallet.public_key == KEYS.pubkey()
    with pytest.raises(SignerUnavailableError, match="only watched"):
        await sign_message(wallet, b"message", 1)


def test_of_a_key_only_the_wallet_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "id.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(list(bytes(KEYS))))
    wallet = load_watched(f"file:{file}")
    assert vars(wallet) == vars(WatchedWallet(KEYS.pubkey()))


@pytest.mark.parametrize(
    "setting", ["", "address:", f"address:{SECRET}", f"address:[{SECRET}]", f"address: {SECRET}", SECRET]
)
def test_what_names_no_wallet_is_not_shown(setting: str) -> None:
    with pytest.raises(InvalidSignerError) as error:
        load_watched(setting)
    assert SECRET not in str(error.value)
