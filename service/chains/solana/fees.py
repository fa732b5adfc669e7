"""Fees of a transaction: what it offers to be preferred, and the most that it may cost. Pure, in integers.

A node answers getRecentPrioritizationFees with the least fee of each recent block among the transactions that
locked *all* given accounts. So it is asked once for each account that many trade, a pool, and the highest of
the answers counts: a transaction waits for the busiest of its accounts.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from service.amm.integers import ceil_div
from service.domain.amounts import U64_MAX

_MICRO_LAMPORTS = 1_000_000
_PERCENTILE = re.compile(r"p([1-9][0-9]?|100)")
_FIXED = re.compile(r"fixed:([0-9]{1,15})")
# Each expired try of an order multiplies the next one's fee by three halves.
_STEP_UP, _STEP_DOWN = 3, 2


class MalformedFeesError(Exception):
    """The node's answer is no list of recent fees."""


class FeeTooHighError(Exception):
    """The transaction would cost more than the user allows. It is not sent with a lower fee instead.

    Attributes:
        lamports: What it would cost.
        maximum: What it may cost.
    """

    def __init__(self, lamports: int, maximum: int) -> None:
        super().__init__(f"the transaction would cost {lamports} lamports, at most {maximum} are allowed")
        self.lamports = lamports
        self.maximum = maximum


@dataclass(frozen=True, slots=True)
class Percentile:
    """Pay what this share of recent blocks was content with, 1 to 100 percent."""

    percent: int


@dataclass(frozen=True, slots=True)
class FixedFee:
    """Pay this many lamports, whatever others pay; 0: nothing."""

    lamports: int


Priority = Percentile | FixedFee


def read_priority(text: str) -> Priority:
    """Read the setting: ``p75`` or another percentile, ``fixed:LAMPORTS``, or ``none``.

    Raises:
        ValueError: It is none of them.
    """
    if text == "none":
        return FixedFee(0)
    if found := _PERCENTILE.fullmatch(text):
        return Percentile(int(found[1]))
    if found := _FIXED.fullmatch(text):
        return FixedFee(int(found[1]))
    raise ValueError("must be p1 to p100, fixed:LAMPORTS or none")


def read_recent_fees(answer: Any) -> list[int]:
    """Return the fees of recent blocks, in micro-lamports for each compute unit.

    Raises:
        MalformedFeesError: The answer has another form.
    """
    if not isinstance(answer, list):
        raise MalformedFeesError("the recent fees are not a list")
    fees = []
    for each in answer:
        fee = each.get("prioritizationFee") if isinstance(each, dict) else None
        if type(fee) is not int or not 0 <= fee <= U64_MAX:
            raise MalformedFeesError("a recent fee is not a whole number")
        fees.append(fee)
    return fees


def unit_price(fees_by_account: Iterable[Sequence[int]], percent: int) -> int:
    """Return the price of a compute unit, in micro-lamports: the percentile of the busiest account.

    The percentile is the least recent fee that at least this share of the blocks did not exceed. Without any
    block the price is 0.
    """
    return max((_percentile(fees, percent) for fees in fees_by_account), default=0)


def _percentile(fees: Sequence[int], percent: int) -> int:
    if not fees:
        return 0
    return sorted(fees)[ceil_div(len(fees) * percent, 100) - 1]


def priority_fee(priority: Priority, price: int, compute_units: int, expired_tries: int) -> int:
    """Return the priority fee of a transaction: lamports in all.

    Args:
        priority: The user's setting.
        price: Micro-lamports for each compute unit, from ``unit_price``; not used by a fixed fee.
        compute_units: The transaction's limit of compute units: the network charges the limit, not the use.
        expired_tries: How many tries of the order have expired; each raises the fee by half.
    """
    if isinstance(priority, FixedFee):
        lamports = priority.lamports
    else:
        lamports = ceil_div(price * compute_units, _MICRO_LAMPORTS)
    return ceil_div(lamports * _STEP_UP**expired_tries, _STEP_DOWN**expired_tries)


def check_fee(base: int, priority: int, tip: int, maximum: int) -> int:
    """Return what a transaction costs, in lamports, if it may.

    Args:
        base: The fee of its signatures.
        priority: Its priority fee.
        tip: What it pays to whoever lands it.
        maximum: The most that it may cost.

    Raises:
        FeeTooHighError: It would cost more.
    """
    total = base + priority + tip
    if total > maximum:
        raise FeeTooHighError(total, maximum)
    return total
