"""The paper chain's wire format: a swap as bytes, signed with Ed25519 as on Solana."""

import hashlib
from dataclasses import dataclass

import orjson
from solders.keypair import Keypair
from solders.signature import Signature

from service.domain.attempt import Attempt
from service.venues.venue import Swap


@dataclass(frozen=True, slots=True)
class PaperTransaction:
    """A signed swap: it executes in or before ``last_valid_slot``, or never. Amounts are base units."""

    signature: str
    order_id: str
    attempt: int
    venue: str
    pool_id: str
    token_in: str
    token_out: str
    amount_in: int
    minimum_out: int
    last_valid_slot: int


class Wallet:
    """Signs for the paper market's one wallet, whose key follows from the market's seed."""

    def __init__(self, seed: int) -> None:
        self._keypair = Keypair.from_seed(hashlib.sha256(f"paper wallet {seed}".encode()).digest())

    def sign(self, swap: Swap, last_valid_slot: int) -> Attempt:
        """Return the signed transaction of a swap; its id is the signature, in base58."""
        message = orjson.dumps(
            {
                "order_id": swap.order_id,
                "attempt": swap.attempt,
                "venue": swap.dex,
                "pool_id": swap.pool_id,
                "token_in": swap.token_in,
                "token_out": swap.token_out,
                "amount_in": swap.amount_in,
                "minimum_out": swap.minimum_out,
                "last_valid_slot": last_valid_slot,
            }
        )
        signature = self._keypair.sign_message(message)
        return Attempt(
            id=str(signature),
            venue=swap.dex,
            transaction=bytes(signature) + message,
            minimum_out=swap.minimum_out,
            last_valid_height=last_valid_slot,
        )


def decode(attempt: Attempt) -> PaperTransaction:
    """Read an attempt's bytes: 64 of signature, then the swap."""
    signature = Signature.from_bytes(attempt.transaction[: Signature.LENGTH])
    return PaperTransaction(signature=str(signature), **orjson.loads(attempt.transaction[Signature.LENGTH :]))


def market_signature(pool_id: str, version: int) -> str:
    """Return the signature under which a trade of the market's own, at a pool's version, is booked."""
    return str(Signature.from_bytes(hashlib.sha512(f"{pool_id} {version}".encode()).digest()))
