"""What the wallet must hold: its opening balances, and what orders and others' transactions changed since.

An account is read in a finalized block before the orders are. So whatever changed it up to then is known when
they are read: by the record of an order, or by the chain if that is not recorded yet.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from service.chains.holding import Holding
from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.auditing.evidence import NOTHING, Evidence
from service.chains.solana.auditing.results import Results
from service.chains.solana.auditing.stored import StoredOrder, StoredTransaction
from service.chains.solana.receipt import Receipt

SOL = str(WRAPPED_SOL)


class Books:
    """The balances of one wallet, by the opening balances and the changes since.

    Args:
        opening: The opening balances.
        held: What the same accounts hold now, in the same sequence.
    """

    def __init__(self, opening: Sequence[Holding], held: Sequence[Holding]) -> None:
        self._opening = {each.mint: each for each in opening}
        self._held = {each.mint: each for each in held}
        self._mints = {each.token: each.mint for each in opening}
        self._changes: Counter[str] = Counter()
        self.last_slot = max((each.slot for each in held), default=0)
        """The slot of the newest balance."""

        self.unknown: set[str] = set()
        """Tokens of orders that have no opening balance."""

        self.landed = 0
        """How many transactions of orders are in the blocks between the two balances of SOL."""

    def covers(self, mint: str, slot: int) -> bool:
        """Whether what happened in a slot is between the opening balance and the balance now."""
        opening, held = self._opening.get(mint), self._held.get(mint)
        return opening is not None and held is not None and opening.slot < slot <= held.slot

    def add(self, mint: str, slot: int, amount: int) -> None:
        """Add a change of a token's balance in a slot."""
        if self.covers(mint, slot):
            self._changes[mint] += amount

    def add_order(self, order: StoredOrder, evidence: Mapping[str, Evidence]) -> None:
        """Add what is recorded of an order's transactions that have ended."""
        for transaction in order.settled:
            found = evidence.get(transaction.id, NOTHING)
            slot = _slot(transaction, found)
            if slot is None:
                continue
            self.landed += not found.absent and self.covers(SOL, slot)
            if transaction.cost is not None:
                self.add(SOL, slot, -transaction.cost.total)
            if order.status == "confirmed" and transaction.id == order.tx_hash:
                self._add_named(order.token_in, slot, -order.amount_in)
                self._add_named(order.token_out, slot, order.amount_out)
                for token, amount in order.residue.items():
                    self._add_named(token, slot, amount)

    def add_receipt(self, receipt: Receipt) -> None:
        """Add what a transaction did whose outcome is not recorded yet."""
        self.landed += self.covers(SOL, receipt.slot)
        self.add(SOL, receipt.slot, -receipt.network_fee - receipt.rent)
        for leg in receipt.legs:
            self.add(str(leg.sold), receipt.slot, -leg.amount_in)
            self.add(str(leg.bought), receipt.slot, leg.amount_out)

    def compare(self, results: Results, *, complete: bool) -> None:
        """Compare what the accounts must hold with what they hold.

        Args:
            results: Where to add the differences.
            complete: Whether all transactions of others are known; otherwise a difference is not verifiable.
        """
        for mint, opening in self._opening.items():
            held = self._held[mint]
            expected = opening.amount + self._changes[mint]
            if held.amount == expected:
                continue
            what = (
                f"the wallet holds {held.amount} base units in slot {held.slot}, and {expected} follow from "
                f"{opening.amount} in slot {opening.slot}: a difference of {held.amount - expected}"
            )
            if complete:
                results.find(opening.token, what)
            else:
                results.warn(opening.token, f"not verifiable: {what}")
        for token in sorted(self.unknown):
            results.warn(token, "not verifiable: it has no opening balance; the next start records one")

    def _add_named(self, token: str, slot: int, amount: int) -> None:
        # A token without a symbol is named by its mint.
        mint = self._mints.get(token)
        if mint is None:
            self.unknown.add(token)
        else:
            self.add(mint, slot, amount)


def _slot(transaction: StoredTransaction, found: Evidence) -> int | None:
    """Return where a transaction was executed; None if it was not, as far as anything is recorded."""
    if found.slot is not None:
        return found.slot
    if transaction.slot is not None or not transaction.was_executed or transaction.validity is None:
        return transaction.slot
    # A node that did not know the block's time: it landed at most 151 blocks later.
    return transaction.validity.blockhash_slot + 1
