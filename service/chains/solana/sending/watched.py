"""A wallet that is only watched: its address is known here, and nothing signs for it."""

from solders.pubkey import Pubkey

from service.chains.solana.sending.signer import InvalidSignerError, SignerUnavailableError, load_signer

_ADDRESS = "address:"


class WatchedWallet:
    """A wallet without a key.

    Args:
        public_key: The wallet.
    """

    def __init__(self, public_key: Pubkey) -> None:
        self.public_key = public_key

    async def sign(self, message: bytes) -> bytes:  # noqa: ARG002 - of any message
        """Refuse.

        Raises:
            SignerUnavailableError: Always.
        """
        raise SignerUnavailableError("this wallet is only watched")

    async def close(self) -> None:
        """Do nothing."""


def load_watched(setting: str) -> WatchedWallet:
    """Return the wallet that a setting names: ``address:PUBKEY``, or what ``load_signer`` takes.

    Of the latter only the public key is kept.

    Raises:
        InvalidSignerError: It names none.
    """
    if not setting.startswith(_ADDRESS):
        return WatchedWallet(load_signer(setting).public_key)
    try:
        return WatchedWallet(Pubkey.from_string(setting.removeprefix(_ADDRESS)))
    except ValueError:
        # A key that was pasted by mistake is shown by no message.
        raise InvalidSignerError(f"{_ADDRESS} must be followed by a wallet's public key") from None
