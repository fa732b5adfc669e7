"""Whether the service trades with real money."""

from enum import StrEnum


class TradingMode(StrEnum):
    """Whether real money moves. The values are the API's."""

    PAPER = "paper"  # on a simulated market, a local chain or a test cluster
    SIMULATE = "simulate"  # nothing is signed: a node simulates each transaction
    LIVE = "live"
