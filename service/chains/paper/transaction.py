"""The paper chain's wire format: a swap along a route as bytes, signed with Ed25519 as on Solana."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from solders.keypair import Keypair
from solders.signature import Signature

from service.chains.venue import Swap
from service.domain.leg_limits import LegLimits, shared_limits
from service.domain.quote import SwapMode
from service.domain.transaction import SignedTransaction


@dataclass(frozen=True, slots=True)
class PathSwap:
    """One path of a transaction.

    ``amount`` is in base units: the first pool's input for exact-in, the last pool's output for exact-out.
    ``legs`` are (pool id, token in, token out), in swap order. ``limits`` are those of each leg; None if the
    transaction is from a version that signed none: then each leg trades what the one before it has paid, or
    the next one needs.
    """

    amount: int
    legs: tuple[tuple[str, str, str], ...]
    limits: tuple[LegLimits, ...] | None = None


@dataclass(frozen=True, slots=True)
class PaperTransaction:
    """A signed swap: all paths execute, by ``last_valid_slot`` and within both limits, or none.

    Amounts are in base units.
    """

    signature: str
    order_id: str
    attempt: int
    mode: SwapMode
    token_in: str
    token_out: str
    paths: tuple[PathSwap, ...]
    maximum_in: int
    minimum_out: int
    last_valid_slot: int


class Signer:
    """Signs for the paper market's only user, whose key is derived from the market's seed.

    Args:
        seed: The market's seed.
        hop_margin_bps: The margin between two legs of a path, as in the router.
    """

    def __init__(self, seed: int, hop_margin_bps: int) -> None:
        self._hop_margin_bps = hop_margin_bps
        self._keypair = Keypair.from_seed(hashlib.sha256(f"paper wallet {seed}".encode()).digest())

    def sign(self, swap: Swap, last_valid_slot: int) -> SignedTransaction:
        """Return the signed transaction of a swap; its id is the signature, in base58."""
        route = swap.route
        exact_in = route.mode is SwapMode.EXACT_IN
        limits = shared_limits(route, swap.maximum_in, swap.minimum_out, self._hop_margin_bps)
        message = orjson.dumps(
            {
                "order_id": swap.order_id,
                "attempt": swap.attempt,
                "mode": route.mode,
                "token_in": route.token_in,
                "token_out": route.token_out,
                "paths": [
                    {
                        "amount": path.amount_in if exact_in else path.amount_out,
                        "legs": [(leg.pool_id, leg.token_in, leg.token_out) for leg in path.legs],
                        # A leader of a version that knows none ignores them.
                        "limits": [tuple(limit) for limit in legs],
                    }
                    for path, legs in zip(route.paths, limits, strict=True)
                ],
                "maximum_in": swap.maximum_in,
                "minimum_out": swap.minimum_out,
                "last_valid_slot": last_valid_slot,
            }
        )
        signature = self._keypair.sign_message(message)
        return SignedTransaction(
            id=str(signature),
            dex=route.dex,
            raw=bytes(signature) + message,
            maximum_in=swap.maximum_in,
            minimum_out=swap.minimum_out,
            last_valid_height=last_valid_slot,
        )


def decode(signed: SignedTransaction) -> PaperTransaction:
    """Decode a signed transaction: 64 bytes of signature, then the swap."""
    signature = Signature.from_bytes(signed.raw[: Signature.LENGTH])
    return decode_message(str(signature), signed.raw[Signature.LENGTH :])


def message_of(signed: SignedTransaction) -> str:
    """Return the signed message, which is JSON."""
    return signed.raw[Signature.LENGTH :].decode()


def decode_message(signature: str, message: bytes | str) -> PaperTransaction:
    """Decode the swap of a signed message."""
    fields = orjson.loads(message)
    paths = tuple(map(_path, fields.pop("paths")))
    return PaperTransaction(signature=signature, mode=SwapMode(fields.pop("mode")), paths=paths, **fields)


def _path(path: Mapping[str, Any]) -> PathSwap:
    limits = path.get("limits")
    return PathSwap(
        path["amount"],
        tuple((pool, sold, bought) for pool, sold, bought in path["legs"]),
        None if limits is None else tuple(LegLimits(*each) for each in limits),
    )
