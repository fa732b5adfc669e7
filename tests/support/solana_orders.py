"""Orders on a served local chain, by the engine's rules: stored before they are sent, one attempt at a time.

Only the test moves slots and time. What the venue's loops do, the test does at its own moments.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from solders.pubkey import Pubkey

from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.signer import LocalSigner
from service.chains.solana.tokens import token_amount
from service.chains.solana.venue import SolanaVenue
from service.chains.venue import Swap, SwapTooLateError, VenueRefusedError, VenueUnavailableError
from service.domain.failures import FailureCode
from service.domain.quote import SwapMode
from service.domain.tokens import TOKENS, find_token
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.routing import NoRouteError, RouteLimits
from service.routing.quoting import Quoter
from tests.support.clock import ManualClock
from tests.support.local_chain import passing
from tests.support.served_chain import ServedChain
from tests.support.solana_venue import OPTIONS

SLOT_S = 0.2
PAIRS = ("SOL-USDC", "SOL-JUP", "SOL-BONK", "USDC-JUP", "USDC-BONK")
_HELD = ("SOL", "USDC", "JUP", "BONK")
_CHECK_SLOTS = 25
_BLOCKHASH_SLOTS = 10


class LoopClock(ManualClock):
    """A clock on which only loops wait, and without end; a pause within a call is over, and has passed.

    Attributes:
        loop_failed: Whether a loop had an error that it does not expect.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.loop_failed = False

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, or for a loop: wait."""
        caller = sys._getframe(1).f_code.co_name
        if caller.endswith("_forever"):
            self.loop_failed = self.loop_failed or caller == "_run_forever"
            await asyncio.get_running_loop().create_future()
        self.move(max(0.0, seconds))
        await asyncio.sleep(0)

    def move(self, seconds: float) -> None:
        """Let the time pass."""
        self._elapsed_s += seconds


class WantedSwap(NamedTuple):
    """A swap; the amount is of the side that the mode fixes, in base units."""

    token_in: str
    token_out: str
    amount: int
    mode: SwapMode


class OrderTerms(NamedTuple):
    """What an order wants; ``expires_s``: how long its transactions may land, None: as long as any."""

    swap: WantedSwap
    slippage_bps: int
    expires_s: float | None


@dataclass
class PlacedOrder:
    """An order, and its stored transactions."""

    id: str
    terms: OrderTerms
    stored: list[SignedTransaction] = field(default_factory=list)


class VenueInstance:
    """A process of the service: a venue that knows nothing but what is stored and what nodes say."""

    def __init__(self, served: ServedChain, clock: LoopClock) -> None:
        self._clock = clock
        self._endpoints = Endpoints(served.urls, clock)
        local = served.local
        self.venue = SolanaVenue(
            self._endpoints,
            AmmPrograms(MAINNET),
            [
                ListedPool(local.account(key).owner, key)
                for name, key in local.chain.genesis.pools.items()
                if name.split(":")[1] in PAIRS
            ],
            find_token,
            LocalSigner(local.wallet),
            clock,
            OPTIONS,
        )
        self.started = False
        self._checked_at = self._renewed_at = 0

    async def start(self) -> None:
        """Start, if nodes answer; otherwise it is tried again."""
        try:
            await self.venue.identity()
            await self.venue.start()
        except VenueUnavailableError:
            return
        self.started = True

    async def work(self, now: int) -> None:
        """Do what its loops have to do by a slot."""
        if now - self._checked_at >= _CHECK_SLOTS:
            self._checked_at = now
            await self._endpoints.check()
        if not self.started:
            await self.start()
            return
        if now - self._renewed_at >= _BLOCKHASH_SLOTS:
            self._renewed_at = now
            with suppress(RpcError, VenueUnavailableError):
                await self.venue._preparer.blockhashes.renew()
        await self.venue.tracker.poll()
        await self.venue.tracker.send_again()

    async def signed(self, order: PlacedOrder) -> SignedTransaction | None:
        """Return an order's next transaction; None if something speaks against it."""
        terms, swap = order.terms, order.terms.swap
        quoter = Quoter(self.venue, timeout_ms=5_000, limits=RouteLimits(), clock=self._clock)
        expires_at = None if terms.expires_s is None else self._clock.database_time() + terms.expires_s
        try:
            route = (await quoter.best(swap.mode, swap.token_in, swap.token_out, swap.amount)).route
            limits = route.limits(terms.slippage_bps)
            number = len(order.stored) + 1
            return await self.venue.prepare(Swap(order.id, number, route, *limits, valid_until=expires_at))
        except VenueRefusedError as error:
            if error.failure.code is FailureCode.INTERNAL_ERROR:
                raise AssertionError("a call that no node would accept") from error
        except (NoRouteError, SwapTooLateError, VenueUnavailableError):
            pass
        return None


class OrderWorld:
    """A chain, the instances that trade on it with one wallet, and what they have stored.

    Attributes:
        instances: The first one places orders.
        unsent: Transactions that were signed, and of which their process ended before it stored them.
        ends: What the first instance that knew it said of each transaction's end.
    """

    def __init__(self, served: ServedChain, clock: LoopClock) -> None:
        self.served = served
        self.chain = served.chain
        self.nodes = served.nodes
        self.clock = clock
        self.orders: list[PlacedOrder] = []
        self.unsent: list[SignedTransaction] = []
        self.ends: dict[str, TransactionStatus] = {}
        self.instances = [VenueInstance(served, clock)]
        # The first order that buys it pays the account's rent.
        self.chain.accounts.write(self.chain.tip.slot, self._account("BONK"), None)
        # No fork undoes that any more, and a confirmed block knows a blockhash.
        self.chain.advance(40)
        self._slot_at_start = self.chain.highest_slot
        self._held_at_start = self.held()

    async def start(self) -> None:
        """Start the first instance."""
        await self.instances[0].start()

    async def stop(self) -> None:
        """Stop all instances."""
        for instance in self.instances:
            await instance.venue.stop()

    async def pass_slots(self, slots: int, every: int, *, blocks: bool = True) -> None:
        """Let slots pass, in steps after which all instances work."""
        for step in passing(self.chain, slots, every, blocks=blocks):
            self.clock.move(step * SLOT_S)
            await self._work()

    async def _work(self) -> None:
        for instance in self.instances:
            await instance.work(self.chain.highest_slot)
        self.keep_step()

    def keep_step(self) -> None:
        """Make the blocks of the time that calls took."""
        passed = round(self.clock.monotonic() / SLOT_S) - (self.chain.highest_slot - self._slot_at_start)
        self.chain.advance(max(0, passed))

    async def place(self, terms: OrderTerms, ends: str = "") -> None:
        """Place an order; ``ends``: when the process ends meanwhile."""
        order = PlacedOrder(self.clock.new_order_id(), terms)
        self.orders.append(order)
        await self.attempt(order, ends)

    async def attempt(self, order: PlacedOrder, ends: str = "") -> None:
        """Sign, store and send an order's next transaction."""
        instance = self.instances[0]
        signed = await instance.signed(order) if instance.started else None
        if signed is None:
            return
        if ends == "signed":
            self.unsent.append(signed)
        else:
            order.stored.append(signed)
            if ends == "sending":
                sending = asyncio.create_task(instance.venue.submit(signed))
                # Begun, and with some luck sent.
                for _ in range(3):
                    await asyncio.sleep(0)
                sending.cancel()
                await asyncio.wait([sending])
            elif not ends:
                self._note(signed, await instance.venue.submit(signed))
        if ends:
            await self.restart()

    async def attempt_again(self, place: int) -> None:
        """Attempt one of the orders again whose last transaction has ended without a fill, for certain."""
        over = [order for order in self.orders if self._may_attempt(order)]
        if over:
            await self.attempt(over[place % len(over)])

    def _may_attempt(self, order: PlacedOrder) -> bool:
        if not order.stored:
            return True
        end = self.ends.get(order.stored[-1].id)
        return end is not None and end.state is not TransactionState.LANDED

    async def restart(self) -> None:
        """End the first instance, and start another one in its place."""
        await self.instances[0].venue.stop()
        self.instances[0] = VenueInstance(self.served, self.clock)
        await self.instances[0].start()

    async def add_or_exchange(self) -> None:
        """Start a second instance; if there is one, let it place the orders from now on."""
        if len(self.instances) == 1:
            self.instances.append(VenueInstance(self.served, self.clock))
            await self.instances[1].start()
        else:
            self.instances.reverse()

    def stored(self) -> Iterator[SignedTransaction]:
        """Return all stored transactions."""
        return (each for order in self.orders for each in order.stored)

    async def follow(self) -> None:
        """Ask every instance for what became of every transaction, and have it send what is not known."""
        for instance in self.instances:
            for transaction in self.stored() if instance.started else ():
                try:
                    status = await instance.venue.status(transaction)
                    if status.state is TransactionState.UNKNOWN:
                        status = await instance.venue.submit(transaction)
                except VenueUnavailableError:
                    continue
                self._note(transaction, status)

    def has_ended(self) -> bool:
        """Whether every instance knows the end of every transaction."""
        return all(
            instance.started and not instance.venue.tracker.in_flight for instance in self.instances
        ) and all(each.id in self.ends for each in self.stored())

    def _note(self, transaction: SignedTransaction, status: TransactionStatus) -> None:
        """Check that an end is the chain's truth, and that all who say it say the same."""
        if status.final:
            assert status.state is self._truth(transaction), status
            assert self.ends.setdefault(transaction.id, status) == status

    def _truth(self, transaction: SignedTransaction) -> TransactionState:
        """Return what has become of a transaction, for ever."""
        landed = self.chain.landed(transaction.id)
        if landed is None:
            over = self.chain.finalized.height > transaction.last_valid_height
            return TransactionState.EXPIRED if over else TransactionState.UNKNOWN
        if landed.slot > self.chain.finalized.slot:
            return TransactionState.PENDING
        return TransactionState.LANDED if landed.execution.error is None else TransactionState.FAILED

    def check(self) -> None:
        """Check that each order was executed at most once, and that nothing landed that was not stored."""
        blocks = self.chain.blocks_after(0, self.chain.tip.slot)
        landings = Counter(each.signature for block in blocks for each in block.landed)
        stored = {each.id for each in self.stored()}
        assert max((landings[each] for each in stored), default=0) <= 1
        assert not [each for each in self.unsent if landings[each.id] and each.id not in stored]
        for order in self.orders:
            landed = [self.chain.landed(each.id) for each in order.stored]
            assert sum(each is not None and each.execution.error is None for each in landed) <= 1
        assert not self.clock.loop_failed

    # --- The wallet

    def held(self) -> Counter[str]:
        """Return what the wallet holds after the last block, by token."""
        return Counter({token: self._held(token) for token in _HELD})

    def _held(self, token: str) -> int:
        local = self.served.local
        if token == "SOL":
            return int(local.account(local.wallet.pubkey()).lamports)
        found = local.found(self._account(token))
        return 0 if found is None else token_amount(found.data)

    def _account(self, token: str) -> Pubkey:
        mint = Pubkey.from_string(TOKENS[token].mint)
        return associated_token_account(self.served.local.wallet.pubkey(), mint, TOKEN_PROGRAM)

    def by_the_books(self) -> Counter[str]:
        """Return what the wallet should hold: what it had, and what every transaction's end says."""
        held = self._held_at_start.copy()
        for order in self.orders:
            for end in (self.ends[each.id] for each in order.stored):
                held["SOL"] -= end.cost.total if end.cost is not None else 0
                if end.fill is not None:
                    held[order.terms.swap.token_in] -= end.fill.amount_in
                    held[order.terms.swap.token_out] += end.fill.amount_out
                for residue in end.residue:
                    held[residue.token] += residue.amount
        return held

    async def shown(self) -> list[Counter[str]] | None:
        """Return what each instance says that the wallet holds; None if one has no answer yet."""
        try:
            return [
                Counter({token: (await each.venue.balance(token)).total for token in _HELD})
                for each in self.instances
            ]
        except VenueUnavailableError:
            return None
