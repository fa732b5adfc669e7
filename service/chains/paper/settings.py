"""The settings of the paper market."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.settings import FailureRates, Range


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """The paper market's settings; see docs/configuration.md.

    ``slot_ms`` is None for an existing market of any slot length, or a new one of the default length.
    """

    seed: int | None
    quote_delay_ms: Range
    execution_delay_ms: Range
    price_variance_ppm: Range
    failure_rates: FailureRates
    balances: Mapping[str, int]
    slot_ms: int | None
    valid_slots: int
    group_limit: int
    alone: bool
    listing_every_s: int
    hop_margin_bps: int
