"""Transactions of the wallet that belong to no order: deposits, and whatever else its key has signed.

A node lists the transactions that name an account. One that pays tokens to the wallet names only the token's
account, so all accounts that have an opening balance are asked for.

A node that has lost some blocks, or is behind, lists fewer, and does not say so. So its blocks must begin and
end where they should, and it must list as many transactions of orders as are known to be in the chain.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.chains.holding import Holding
from service.chains.solana.auditing.balances import SOL, Books
from service.chains.solana.auditing.effects import Effect, UnreadableEffectError, read_effect
from service.chains.solana.auditing.evidence import TRANSACTION_CONFIG
from service.chains.solana.auditing.nodes import CALLS_AT_ONCE, Nodes
from service.chains.solana.auditing.results import Results
from service.chains.solana.auditing.stored import known_signatures
from service.chains.solana.rpc.endpoint import Endpoint
from service.chains.solana.rpc.errors import NoAnswerError, RpcError
from service.postgres.session import Session

_PAGE = 1_000


class _UnreadableListError(Exception):
    """The node's answer is no list of signatures."""


class ListedTransaction(NamedTuple):
    """A transaction as a node lists it: its signature, slot, and time in seconds, if the node knows that."""

    signature: str
    slot: int
    time: int | None


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where the search begins.

    Attributes:
        slot: After this slot, in which the wallet was first looked at; None: that is not known.
        time: From this time on, too, in seconds since the Unix epoch; None: from any time.
        landed: How many transactions of orders a node must list that are in the compared slots.
    """

    slot: int | None
    time: float | None = None
    landed: int = 0

    def includes(self, listed: ListedTransaction) -> bool:
        """Whether a transaction is to be looked at."""
        if self.slot is not None and listed.slot <= self.slot:
            return False
        return self.time is None or listed.time is None or listed.time >= self.time


class StrangerSearch:
    """Looks for transactions that belong to no order.

    Args:
        nodes: The nodes.
        session: The database, which knows the orders' transactions.
        wallet: The wallet.
        opening: Its accounts.
        books: The balances that the transactions change.
        results: Where to add what is found.
    """

    def __init__(
        self,
        nodes: Nodes,
        session: Session,
        wallet: str,
        opening: Sequence[Holding],
        books: Books,
        results: Results,
    ) -> None:
        self._nodes = nodes
        self._session = session
        self._wallet = wallet
        self._accounts = {each.account: each for each in opening}
        self._books = books
        self._results = results
        self.landed = 0
        """How many transactions of orders a node lists that are between the two balances of SOL."""

    async def run(self, beginning: Beginning) -> bool:
        """Add all transactions of others, and return whether they are all.

        Raises:
            VenueUnavailableError: No node answered.
        """
        found: dict[str, ListedTransaction] = {}
        complete = False
        for endpoint in self._nodes.usable:
            try:
                complete = await self._list_all(endpoint, beginning, found)
            except (RpcError, NoAnswerError, _UnreadableListError):
                continue
            if complete:
                break
        strangers = sorted(found.values(), key=lambda each: each.slot)
        for start in range(0, len(strangers), CALLS_AT_ONCE):
            group = strangers[start : start + CALLS_AT_ONCE]
            effects = await asyncio.gather(*(self._effect(each.signature) for each in group))
            for each, effect in zip(group, effects, strict=True):
                complete = complete and effect is not None
                self._add(each, effect)
        return complete

    async def _list_all(
        self, endpoint: Endpoint, beginning: Beginning, found: dict[str, ListedTransaction]
    ) -> bool:
        """Add what an endpoint lists and no order has; return whether it has everything."""
        complete = await self._has_all_blocks(endpoint, beginning)
        landed = 0
        for account in {self._wallet: None, **self._accounts}:
            async for page in self._pages(endpoint, account, beginning):
                known = await known_signatures(self._session, [each.signature for each in page])
                for each in page:
                    if each.signature not in known:
                        found[each.signature] = each
                    elif account == self._wallet and self._books.covers(SOL, each.slot):
                        landed += 1
        self.landed = max(self.landed, landed)
        return complete and landed >= beginning.landed

    async def _has_all_blocks(self, endpoint: Endpoint, beginning: Beginning) -> bool:
        """Whether its blocks begin early enough, and those of the balances are final for it."""
        last = await self._nodes.answer_of(endpoint, "getSlot", [{"commitment": "finalized"}])
        if not isinstance(last, int) or last < self._books.last_slot:
            return False
        first = await self._nodes.answer_of(endpoint, "getFirstAvailableBlock", [])
        if not isinstance(first, int):
            return False
        if beginning.slot is not None and first <= beginning.slot + 1:
            return True
        if beginning.time is None:
            return False
        time = await self._nodes.answer_of(endpoint, "getBlockTime", [first])
        return isinstance(time, int) and time <= beginning.time

    async def _pages(
        self, endpoint: Endpoint, account: str, beginning: Beginning
    ) -> AsyncIterator[list[ListedTransaction]]:
        """Yield what an endpoint lists of an account, the newest first."""
        config: dict[str, Any] = {"limit": _PAGE, "commitment": "finalized"}
        while True:
            answer = await self._nodes.answer_of(endpoint, "getSignaturesForAddress", [account, config])
            listed = _listed(answer)
            wanted = [each for each in listed if beginning.includes(each)]
            if wanted:
                yield wanted
            # A node may list fewer at once than it was asked for.
            if len(wanted) < len(listed) or not listed:
                return
            config = {**config, "before": listed[-1].signature}

    async def _effect(self, signature: str) -> Effect | None:
        params = [signature, TRANSACTION_CONFIG]
        async with aclosing(self._nodes.answers("getTransaction", params)) as answers:
            async for answer in answers:
                if answer is None:
                    continue
                try:
                    return read_effect(answer)
                except UnreadableEffectError:
                    continue
        return None

    def _add(self, listed: ListedTransaction, effect: Effect | None) -> None:
        if effect is None:
            what = f"in slot {listed.slot}, belongs to no order, and no endpoint tells what it did"
            self._results.warn(listed.signature, what)
            return
        changes = self._changes(effect)
        for account, change in changes.items():
            holding = self._accounts.get(account)
            if holding is not None:
                self._books.add(holding.mint, effect.slot, change)
        told = self._told(changes)
        if self._wallet in effect.signers:
            what = f"in slot {effect.slot}, is signed with the wallet's key and belongs to no order: {told}"
            self._results.find(listed.signature, what)
        elif any(change < 0 for change in changes.values()):
            what = f"in slot {effect.slot}, takes from the wallet and belongs to no order: {told}"
            self._results.find(listed.signature, what)
        elif changes:
            self._results.note(listed.signature, f"in slot {effect.slot}, paid to the wallet: {told}")

    def _changes(self, effect: Effect) -> dict[str, int]:
        """Return how a transaction changed the wallet's accounts."""
        changes = {
            account: effect.tokens.get(account, 0) for account in self._accounts if account != self._wallet
        }
        changes[self._wallet] = effect.lamports.get(self._wallet, 0)
        return {account: change for account, change in changes.items() if change}

    def _told(self, changes: Mapping[str, int]) -> str:
        names = {account: holding.token for account, holding in self._accounts.items()} | {
            self._wallet: "SOL"
        }
        told = ", ".join(f"{change:+d} of {names[account]}" for account, change in changes.items())
        return f"{told} (base units)" if told else "no balance changed"


def _listed(answer: Any) -> list[ListedTransaction]:
    if not isinstance(answer, list):
        raise _UnreadableListError
    listed = []
    for each in answer:
        match each:
            case {"signature": str(signature), "slot": int(slot), **rest}:
                time = rest.get("blockTime")
                listed.append(ListedTransaction(signature, slot, time if isinstance(time, int) else None))
            case _:
                raise _UnreadableListError
    return listed
