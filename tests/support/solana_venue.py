"""A Solana venue on a served local chain, whose slots and time only the test moves."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from solders.pubkey import Pubkey

from service.amm import Direction
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_dlmm_account import LbPairAccount
from service.amm.raydium_amm_v4_account import AmmV4Account
from service.amm.raydium_cpmm_account import CpmmPoolAccount
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.fees import Percentile
from service.chains.solana.options import SolanaOptions
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.chains.solana.sending.signer import LocalSigner, WalletSigner
from service.chains.solana.venue import SolanaVenue
from service.chains.venue import Swap
from service.domain.mode import TradingMode
from service.domain.quote import Choice, Leg, Path, Route, SwapMode
from service.domain.tokens import TOKENS, find_token
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.routing import RouteLimits
from service.routing.quoting import Quoter
from service.sandbox.accounts import held_account
from tests.support.clock import ManualClock
from tests.support.local_chain import SOL, LocalChain, passing
from tests.support.served_chain import ServedChain, served_chain

SLOT_S = 0.2
WHOLE_LIFE = 151 + 32 + 2
"""Slots after which no transaction of now can land, and every block of its life is finalized."""

OPTIONS = SolanaOptions(
    TradingMode.PAPER, Percentile(75), max_fee=1_000_000, sol_reserve=SOL // 20, hop_margin_bps=5
)
_CHECK_SLOTS = 25
_ACCOUNTS: dict[Pubkey, Any] = {
    MAINNET.raydium_cpmm: CpmmPoolAccount,
    MAINNET.raydium_amm_v4: AmmV4Account,
    MAINNET.meteora_dlmm: LbPairAccount,
    MAINNET.meteora_damm_v2: DammV2Account,
}
# In which no program swaps.
_OFF = 4


class SteppedVenue(SolanaVenue):
    """A venue whose chain moves while somebody waits for an outcome, and then only."""

    desk: "VenueDesk"

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait while slots pass."""
        waiting = asyncio.create_task(super().outcome(transaction, timeout_s))
        while not waiting.done():
            await self.desk.pass_slots(4)
        await self.refresh()
        return await waiting


class VenueDesk:
    """A trader on the venue.

    Args:
        served: The chain and its endpoints.
        clock: Moved by the test.
        options: The venue's.
        signer: Another one than the wallet's own.
        unlisted: Pairs of the chain that the venue does not trade, such as ``SOL-USDC``.
    """

    def __init__(
        self,
        served: ServedChain,
        clock: ManualClock,
        options: SolanaOptions = OPTIONS,
        signer: WalletSigner | None = None,
        unlisted: Collection[str] = (),
    ) -> None:
        self.served = served
        self.local: LocalChain = served.local
        self.chain = served.chain
        self.clock = clock
        self.options = options
        listed = [
            ListedPool(self.local.account(key).owner, key)
            for name, key in self.chain.genesis.pools.items()
            if name.split(":")[1] not in unlisted
        ]
        self.venue = SteppedVenue(
            served.endpoints,
            AmmPrograms(MAINNET),
            listed,
            find_token,
            signer or LocalSigner(self.local.wallet),
            clock,
            options,
        )
        self.venue.desk = self
        self._passing = asyncio.Lock()
        self._checked_at = 0

    async def pass_slots(self, slots: int, every: int = 4, *, blocks: bool = True) -> None:
        """Let slots pass, with a poll of what is in flight after each few of them."""
        async with self._passing:
            for step in passing(self.chain, slots, every, blocks=blocks):
                await self.clock.advance(step * SLOT_S)
                if self.chain.highest_slot - self._checked_at >= _CHECK_SLOTS:
                    self._checked_at = self.chain.highest_slot
                    await self.served.endpoints.check()
                await self.venue.tracker.poll()

    async def quote(
        self, token_in: str, token_out: str, amount: int, mode: SwapMode = SwapMode.EXACT_IN
    ) -> Choice:
        """Return the best route."""
        quoter = Quoter(self.venue, timeout_ms=5_000, limits=RouteLimits(), clock=self.clock)
        return await quoter.best(mode, token_in, token_out, amount)

    async def swap(self, route: Route | None = None, slippage_bps: int = 50, number: int = 1) -> Swap:
        """Return a new order's swap; by default it sells one SOL."""
        route = route or (await self.quote("SOL", "USDC", SOL)).route
        return Swap(self.clock.new_order_id(), number, route, *route.limits(slippage_bps))

    async def signed(self, route: Route | None = None, slippage_bps: int = 50) -> SignedTransaction:
        """Return a signed swap."""
        return await self.venue.prepare(await self.swap(route, slippage_bps))

    async def execute(self, transaction: SignedTransaction) -> TransactionStatus:
        """Submit a transaction, and return its outcome."""
        assert (await self.venue.submit(transaction)).state is TransactionState.UNKNOWN
        return await self.venue.outcome(transaction, 60)

    async def switch_off(self, pool_id: str) -> None:
        """Disable swaps on a pool."""
        key = Pubkey.from_string(pool_id)
        account = self.local.account(key)
        kind = _ACCOUNTS[account.owner]
        data = replace(kind.decode(account.data), status=_OFF).encode()
        self.chain.accounts.write(self.chain.tip.slot, key, replace(account, data=data))
        await self.pass_slots(1)
        await self.venue.refresh()

    def through(self, pool_id: str, token_in: str, token_out: str, amount: int) -> Route:
        """Return an exact-in route through one pool, as it quotes now."""
        opened = self.venue.feed.opened(pool_id)
        assert opened is not None
        sells_a = opened.pool.addresses.token_a.mint == Pubkey.from_string(TOKENS[token_in].mint)
        direction = Direction.A_TO_B if sells_a else Direction.B_TO_A
        out = opened.state.quote_exact_in(direction, amount, self.venue.feed.now).amount_out
        [dex] = {each.dex for each in self.venue.pools(token_in, token_out) if each.id == pool_id}
        leg = Leg(dex, pool_id, token_in, token_out, amount, out, 0, 0, 0)
        return Route(SwapMode.EXACT_IN, token_in, token_out, (Path((leg,)),), 0)

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator["VenueDesk"]:
        """Start another venue on the chain, with nothing but what the chain has."""
        served = ServedChain(self.local, self.served.sandbox, self.served.base, self.served.roles, self.clock)
        other = VenueDesk(served, self.clock, self.options)
        try:
            await other.venue.start()
            yield other
        finally:
            await other.venue.stop()

    def account(self, token: str) -> Pubkey:
        """Return the wallet's account of a token."""
        mint = Pubkey.from_string(TOKENS[token].mint)
        return associated_token_account(self.local.wallet.pubkey(), mint, TOKEN_PROGRAM)

    def hold(self, token: str, amount: int) -> None:
        """Have the wallet hold so much of a token."""
        owner, slot = self.local.wallet.pubkey(), self.chain.tip.slot
        if token == "SOL":
            self.chain.accounts.write(slot, owner, replace(self.local.account(owner), lamports=amount))
        else:
            mint = Pubkey.from_string(TOKENS[token].mint)
            self.chain.accounts.write(slot, self.account(token), held_account(mint, owner, amount))

    def landings(self, transaction: SignedTransaction) -> int:
        """Return how often a transaction is in the chain's blocks."""
        blocks = self.chain.blocks_after(0, self.chain.tip.slot)
        return sum(each.signature == transaction.id for block in blocks for each in block.landed)


@asynccontextmanager
async def venue_desk(
    endpoints: int = 2,
    *,
    options: SolanaOptions = OPTIONS,
    signer: WalletSigner | None = None,
    hold: dict[str, int] | None = None,
    unlisted: Collection[str] = (),
) -> AsyncIterator[VenueDesk]:
    """Serve a chain with so many endpoints, and start a venue on it."""
    clock = ManualClock()
    async with served_chain(*[""] * endpoints, clock=clock, started=False) as served:
        # The first confirmed block that knows a blockhash.
        served.chain.advance(40)
        desk = VenueDesk(served, clock, options, signer, unlisted)
        for token, amount in (hold or {}).items():
            desk.hold(token, amount)
        served.chain.advance(2)
        await clock.advance(42 * SLOT_S)
        try:
            await desk.venue.start()
            # What opening the pools hinted at is read as well.
            await clock.advance(0.4)
            await desk.venue.refresh()
            yield desk
        finally:
            await desk.venue.stop()
