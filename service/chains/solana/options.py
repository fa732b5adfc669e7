"""How a Solana venue is to trade."""

from dataclasses import dataclass, field

from service.chains.solana.feed.feed import FeedSettings
from service.chains.solana.fees import Priority
from service.domain.mode import TradingMode


@dataclass(frozen=True, slots=True)
class SolanaOptions:
    """How a Solana venue is to trade.

    Attributes:
        mode: Whether the cluster's tokens are real money.
        priority: What is offered to be preferred.
        max_fee: The most that a transaction may cost, in lamports.
        sol_reserve: Lamports that no order sells: they are kept for fees and rent.
        hop_margin_bps: The margin between the legs of one path; the router must have the same.
        genesis_hash: The cluster that the endpoints must belong to; None: any.
        signer_timeout_s: How long the signer may take.
        feed: How often pools are read.
    """

    mode: TradingMode
    priority: Priority
    max_fee: int
    sol_reserve: int
    hop_margin_bps: int
    genesis_hash: str | None = None
    signer_timeout_s: float = 5.0
    feed: FeedSettings = field(default_factory=FeedSettings)
