"""A trader that moves a pool just before a transaction lands in it, so that its quote is stale."""

from solders.transaction import VersionedTransaction

from service.amm import AmmError, ChainTime, Direction, DlmmPool
from service.chains.solana.addresses import TOKEN_PROGRAM, WRAPPED_SOL, associated_token_account
from service.chains.solana.builder import (
    MAX_COMPUTE_UNITS,
    MAX_LOADED_BYTES,
    BuiltTransaction,
    ComputeBudget,
    compile_transaction,
)
from service.chains.solana.programs.meteora_dlmm import arrays_to_carry
from service.chains.solana.programs.pool import DecodedSwap, LegSwap, UserAccounts
from service.chains.solana.receipt import NoReceiptError, decoded_swaps
from service.chains.solana.tokens import token_amount
from service.domain.quote import SwapMode
from service.sandbox.chain import SandboxChain
from service.sandbox.doubles.staged import Staged

_BASIS_POINTS = 10_000
_LEAST_OUT = 1


class PoolMover:
    """Trades ahead of transactions, as many times as it is told to."""

    def __init__(self, chain: SandboxChain) -> None:
        self._chain = chain
        self._share_bps: list[int] = []
        self._trades = 0
        chain.before_landing = self._before

    def arm(self, share_bps: int, times: int = 1) -> None:
        """Trade ahead of the next transactions with a swap.

        Args:
            share_bps: How much of the pool's vault to sell, in basis points.
            times: How many transactions.
        """
        self._share_bps += [share_bps] * times

    def _before(self, transaction: VersionedTransaction) -> list[bytes]:
        if not self._share_bps:
            return []
        try:
            swaps = decoded_swaps(transaction, self._chain.programs)
        except NoReceiptError:
            return []
        if not swaps:
            return []
        built = self._trade(swaps[0], self._share_bps.pop(0))
        return [] if built is None else [built]

    def _trade(self, swap: DecodedSwap, share_bps: int) -> bytes | None:
        """Return a swap in the same pool and direction; None if the pool does not make it."""
        chain, trader = self._chain, self._chain.genesis.trader
        found = chain.latest(swap.pool)
        if found is None:
            return None
        now = ChainTime(chain.tip.time_s, chain.tip.slot)
        try:
            pool = chain.programs.open(swap.pool, found.owner, found.data)
            data = {key: account.data for key in pool.state_accounts() if (account := chain.latest(key))}
            # An account that does not exist yet is one of wrapped SOL.
            mint = Staged(chain.latest, now).mint_of(swap.user.source) or WRAPPED_SOL
            direction = Direction.A_TO_B if mint == pool.addresses.token_a.mint else Direction.B_TO_A
            sold, bought = pool.addresses.sides(direction)
            vault = chain.latest(sold.vault)
            amount = 0 if vault is None else token_amount(vault.data) * share_bps // _BASIS_POINTS
            state = pool.state(data)
            after = state.quote_exact_in(direction, amount, now).next_state()
        except AmmError:
            return None
        arrays: tuple[int, ...] = ()
        if isinstance(state, DlmmPool) and isinstance(after, DlmmPool):
            arrays = arrays_to_carry(state, after, direction, spare=1)
        owner = trader.pubkey()
        user = UserAccounts(
            owner,
            associated_token_account(owner, sold.mint, TOKEN_PROGRAM),
            associated_token_account(owner, bought.mint, TOKEN_PROGRAM),
        )
        leg = LegSwap(direction, SwapMode.EXACT_IN, amount, _LEAST_OUT, arrays)
        self._trades += 1
        # A fee of its own makes the bytes of equal trades differ.
        budget = ComputeBudget(MAX_COMPUTE_UNITS, MAX_LOADED_BYTES, self._trades)
        built: BuiltTransaction = compile_transaction(
            [pool.instruction(leg, user)], owner, budget, chain.tip.blockhash
        )
        return bytes(VersionedTransaction(built.message, [trader]))
