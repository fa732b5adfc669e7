"""Signs the transaction of a swap, unless something speaks against it: nothing is sent here.

The sequence matters. The pools are those of the quote; the simulation tells whether the transaction would
succeed and what it needs; then it is known what it costs; and the blockhash comes last, so that none of its
blocks are spent on the rest.
"""

import logging
from collections.abc import Mapping

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from service import crash_points
from service.amm import AmmError, Direction, DlmmPool
from service.chains.solana.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.blockhashes import must_sign_again
from service.chains.solana.builder import (
    BuiltTransaction,
    ComputeBudget,
    TransactionTooLargeError,
    build,
    mark_of,
)
from service.chains.solana.errors import TransactionError, failure_of
from service.chains.solana.feed.feed import SolanaFeed
from service.chains.solana.feed.pools import OpenedPool
from service.chains.solana.fees import FeeTooHighError, Percentile, check_fee, priority_fee, unit_price
from service.chains.solana.options import SolanaOptions
from service.chains.solana.plan import SwapPlan, plan_of_route
from service.chains.solana.programs.meteora_dlmm import READ_EACH_SIDE, arrays_ahead, arrays_to_carry
from service.chains.solana.programs.registry import AmmPrograms, ProgramIds
from service.chains.solana.receipt import NoReceiptError, read_simulated
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.preparation import RecentFees, TokenAccountRent, simulate
from service.chains.solana.sending.recent_blockhashes import RecentBlockhashes
from service.chains.solana.sending.signer import SignerUnavailableError, WalletSigner, sign_message
from service.chains.solana.simulation import WIDEST, Simulation
from service.chains.solana.wallet import SOL, SolanaWallet
from service.chains.venue import Swap, SwapTooLateError, VenueRefusedError
from service.clock import Clock
from service.domain.failures import Failure, FailureCode
from service.domain.leg_limits import Limits, shared_limits
from service.domain.mode import TradingMode
from service.domain.quote import Leg, SwapMode
from service.domain.transaction import NetworkCost, SignedTransaction, SimulatedSwap

log = logging.getLogger(__name__)

_MOST_SIGNINGS = 3
# Bin arrays that a DLMM swap names beyond those that its quote used: the price may move before it lands.
_SPARE_ARRAYS = 1
# They create the account for wrapped SOL, and refuse one with too little rent.
_OPENERS = (SYSTEM_PROGRAM, TOKEN_PROGRAM)


class Preparer:
    """Signs swaps with one wallet.

    Args:
        endpoints: Those of the cluster.
        ids: The cluster's AMM programs.
        feed: The pools.
        wallet: What can be paid.
        signer: The wallet's signer.
        clock: Measures time.
        options: What a transaction may cost, and how it is built.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        ids: ProgramIds,
        feed: SolanaFeed,
        wallet: SolanaWallet,
        signer: WalletSigner,
        clock: Clock,
        options: SolanaOptions,
    ) -> None:
        self._endpoints = endpoints
        self._ids = ids
        self._feed = feed
        self._wallet = wallet
        self._signer = signer
        self._clock = clock
        self._options = options
        self._rent = TokenAccountRent(endpoints, clock)
        self._fees = RecentFees(endpoints, clock)
        self.blockhashes = RecentBlockhashes(endpoints, clock)

    async def prepare(self, swap: Swap) -> SignedTransaction:
        """Sign the transaction of a swap.

        Raises:
            SwapTooLateError: It cannot land in time.
            VenueRefusedError: It would fail, or costs too much, or was not signed; or it is only simulated.
            VenueUnavailableError: No node answered.
        """
        self._seconds_left(swap)
        try:
            return await self._prepare(swap)
        except RpcError as error:
            # A mistake of this service, or an endpoint of another kind: other nodes would say the same.
            log.error("order %s: the nodes refuse a call: %s", swap.order_id, error)  # noqa: TRY400
            raise VenueRefusedError(Failure.of(FailureCode.INTERNAL_ERROR)) from error

    async def _prepare(self, swap: Swap) -> SignedTransaction:
        opened = self._opened(swap)
        min_slot = max(pool.slot for pool in opened.values())
        plan = self._plan(swap, opened)
        await self._check_funds(swap)
        rent = await self._rent.lamports()
        draft = self._build(swap, plan, WIDEST, Hash.default(), rent)
        simulation = await self._simulate(swap, draft, min_slot)
        budget = simulation.budget(0)
        fee = await self._priority_fee(swap, list(opened), budget.compute_units)
        self._check_fee(draft.network_fee, fee)
        if self._options.mode is TradingMode.SIMULATE:
            raise VenueRefusedError(
                Failure.of(FailureCode.SIMULATED),
                self._simulated(swap, draft, simulation, draft.network_fee + fee),
            )
        return await self._sign(swap, plan, simulation.budget(fee), rent)

    def _seconds_left(self, swap: Swap) -> float | None:
        """Return how long the transaction may be able to land; None: as long as possible.

        Raises:
            SwapTooLateError: It is too late to send it.
        """
        now = self._clock.database_time()
        if swap.submit_by is not None and now > swap.submit_by:
            raise SwapTooLateError
        if swap.valid_until is None:
            return None
        if now >= swap.valid_until:
            raise SwapTooLateError
        return swap.valid_until - now

    def _opened(self, swap: Swap) -> dict[str, OpenedPool]:
        found = {}
        for leg in swap.route.legs:
            pool = self._feed.opened(leg.pool_id)
            if pool is None:
                detail = f"The pool {leg.pool_id} can no longer be quoted."
                raise VenueRefusedError(Failure(FailureCode.POOL_DISABLED, detail))
            found[leg.pool_id] = pool
        return found

    def _plan(self, swap: Swap, opened: Mapping[str, OpenedPool]) -> SwapPlan:
        limits = shared_limits(swap.route, swap.maximum_in, swap.minimum_out, self._options.hop_margin_bps)
        return plan_of_route(
            swap.route,
            limits,
            {name: each.pool for name, each in opened.items()},
            {name: each.mint for name, each in self._feed.mints.items()},
            self._bin_arrays(swap, limits, opened),
        )

    def _bin_arrays(
        self, swap: Swap, limits: Limits, opened: Mapping[str, OpenedPool]
    ) -> dict[str, tuple[int, ...]]:
        """Return the bin arrays that each leg in a DLMM pool names, from the pool's newest state."""
        arrays = {}
        for path, of_path in zip(swap.route.paths, limits, strict=True):
            for leg, limit in zip(path.legs, of_path, strict=True):
                state = opened[leg.pool_id].state
                if isinstance(state, DlmmPool):
                    amount = limit.amount_in if swap.route.mode is SwapMode.EXACT_IN else limit.amount_out
                    arrays[leg.pool_id] = self._arrays(
                        opened[leg.pool_id], state, leg, swap.route.mode, amount
                    )
        return arrays

    def _arrays(
        self, opened: OpenedPool, state: DlmmPool, leg: Leg, mode: SwapMode, amount: int
    ) -> tuple[int, ...]:
        sells_a = opened.pool.addresses.token_a.mint == self._feed.mints[leg.token_in].mint
        direction = Direction.A_TO_B if sells_a else Direction.B_TO_A
        quote = state.quote_exact_in if mode is SwapMode.EXACT_IN else state.quote_exact_out
        try:
            after = quote(direction, amount, self._feed.now).next_state()
        except AmmError:
            # The pool has changed since it was quoted: the simulation says whether the swap still works.
            return arrays_ahead(state, direction)[: READ_EACH_SIDE + 1]
        return arrays_to_carry(state, after, direction, _SPARE_ARRAYS)

    async def _check_funds(self, swap: Swap) -> None:
        """Refuse what the wallet cannot pay beside what is in flight, and without its reserve.

        Of wrapped SOL the transaction has to set the maximum aside, of other tokens it takes what it needs.
        """
        route = swap.route
        needed = swap.maximum_in if route.token_in == SOL.symbol else route.amount_in
        if not await self._wallet.can_pay(route.token_in, needed):
            raise VenueRefusedError(Failure.of(FailureCode.INSUFFICIENT_BALANCE))

    def _build(
        self, swap: Swap, plan: SwapPlan, budget: ComputeBudget, blockhash: Hash, rent: int
    ) -> BuiltTransaction:
        mark = mark_of(swap.order_id, swap.attempt)
        try:
            return build(plan, self._signer.public_key, mark, budget, blockhash, rent)
        except TransactionTooLargeError as error:
            raise _refusal(FailureCode.ROUTE_TOO_LARGE, error) from error

    async def _simulate(self, swap: Swap, draft: BuiltTransaction, min_slot: int) -> Simulation:
        keys = draft.message.account_keys
        programs = [keys[each.program_id_index] for each in draft.message.instructions]
        simulation = await simulate(self._endpoints, draft.signed_bytes, programs, min_slot)
        if simulation.error is not None:
            if _may_be_of_rent(simulation.error):
                self._rent.forget()
            sells_sol = swap.route.token_in == SOL.symbol
            raise VenueRefusedError(failure_of(simulation.error, self._ids, sells_sol=sells_sol))
        return simulation

    def _simulated(
        self, swap: Swap, draft: BuiltTransaction, simulation: Simulation, fee: int
    ) -> SimulatedSwap:
        route = swap.route
        sold, bought = (self._feed.mints[token].mint for token in (route.token_in, route.token_out))
        try:
            legs, rent = read_simulated(simulation.answer, draft.signed_bytes, AmmPrograms(self._ids))
        except NoReceiptError as error:
            log.info("order %s: what the simulated swap trades is not known: %s", swap.order_id, error)
            return SimulatedSwap(route.token_in, route.token_out, NetworkCost(fee))
        return SimulatedSwap(
            route.token_in,
            route.token_out,
            NetworkCost(fee, rent=rent),
            sum(leg.amount_in for leg in legs if leg.sold == sold),
            sum(leg.amount_out for leg in legs if leg.bought == bought),
        )

    async def _priority_fee(self, swap: Swap, pools: list[str], compute_units: int) -> int:
        priority, price = self._options.priority, 0
        if isinstance(priority, Percentile):
            recent = await self._fees.of([Pubkey.from_string(pool) for pool in pools])
            price = unit_price(recent, priority.percent)
        return priority_fee(priority, price, compute_units, swap.expired_attempts)

    def _check_fee(self, base: int, priority: int) -> None:
        try:
            check_fee(base, priority, tip=0, maximum=self._options.max_fee)
        except FeeTooHighError as error:
            raise _refusal(FailureCode.NETWORK_FEE_TOO_HIGH, error) from error

    async def _sign(self, swap: Swap, plan: SwapPlan, budget: ComputeBudget, rent: int) -> SignedTransaction:
        block_s = self._feed.slot_ms / 1000
        for _ in range(_MOST_SIGNINGS):
            await self.blockhashes.renew()
            # Measured now: the call may have taken seconds.
            recent = self.blockhashes.choose(self._seconds_left(swap), block_s)
            built = self._build(swap, plan, budget, recent.blockhash, rent)
            began = self._clock.monotonic()
            crash_points.reach("before sign")
            raw = await self._signed(swap, built.signed_bytes)
            crash_points.reach("after sign")
            taken_s = self._clock.monotonic() - began
            if must_sign_again(taken_s, block_s):
                log.warning("order %s: signing took %.1f s", swap.order_id, taken_s)
                continue
            signature = str(Signature.from_bytes(raw[-Signature.LENGTH :]))
            return SignedTransaction(
                signature,
                swap.route.dex,
                raw,
                swap.maximum_in,
                swap.minimum_out,
                recent.last_valid_height,
                recent.slot,
            )
        raise VenueRefusedError(Failure.of(FailureCode.SIGNER_UNAVAILABLE))

    async def _signed(self, swap: Swap, message: bytes) -> bytes:
        try:
            return await sign_message(self._signer, message, self._options.signer_timeout_s)
        except SignerUnavailableError as error:
            log.warning("order %s: %s", swap.order_id, error, extra={"fault": "signer"})
            raise VenueRefusedError(Failure.of(FailureCode.SIGNER_UNAVAILABLE)) from error


def _may_be_of_rent(error: TransactionError) -> bool:
    """Whether the rent of the account for wrapped SOL may have been too low or too high."""
    return error.program in _OPENERS or error.name == "InsufficientFundsForRent"


def _refusal(code: FailureCode, error: Exception) -> VenueRefusedError:
    return VenueRefusedError(Failure(code, f"{Failure.of(code).detail} ({error})"))
