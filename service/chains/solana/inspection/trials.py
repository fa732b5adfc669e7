"""Tries a pool: a small quote both ways, the transaction of such a swap, and its simulation."""

from collections.abc import Mapping
from dataclasses import dataclass

from solders.pubkey import Pubkey

from service.amm import AmmError, Direction, DlmmPool, SwapQuote
from service.chains.inspection import Check
from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.builder import BuiltTransaction, TransactionTooLargeError, build, mark_of
from service.chains.solana.inspection.pools import ReadPool
from service.chains.solana.inspection.probe import NO_BLOCKHASH
from service.chains.solana.plan import InvalidPlanError, plan_of_route
from service.chains.solana.programs.meteora_dlmm import arrays_to_carry
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.preparation import simulate
from service.chains.solana.simulation import WIDEST
from service.chains.venue import VenueUnavailableError
from service.domain.amounts import format_amount
from service.domain.leg_limits import leg_limits
from service.domain.quote import Leg, Path, Route, SwapMode
from service.domain.tokens import Token

MOST_SOL = 10**7
"""Lamports that a trial sells at most, so that a wallet with little SOL can try it too."""

_PART_OF_VAULT = 1_000
_SLIPPAGE_BPS = 100
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class TrialWallet:
    """The wallet that would trade.

    Attributes:
        wallet: The wallet.
        spendable: Lamports that a simulated swap may sell.
        rent: Lamports of a token account.
        hop_margin_bps: The margin between two legs.
        spare_arrays: How many bin arrays a DLMM swap names beyond those that its quote used.
    """

    wallet: Pubkey
    spendable: int
    rent: int
    hop_margin_bps: int
    spare_arrays: int = 1


class PoolTrial:
    """The quotes of a pool, and what follows from them.

    Args:
        pool: The pool.

    Attributes:
        quotes: What it quotes, by direction.
        refusals: Why it does not, by direction.
    """

    def __init__(self, pool: ReadPool) -> None:
        self.pool = pool
        self.quotes: dict[Direction, SwapQuote[object]] = {}
        self.refusals: dict[Direction, str] = {}
        for direction in Direction:
            try:
                quote = pool.state.quote_exact_in(direction, self._amount(direction), pool.now)
            except AmmError as error:
                self.refusals[direction] = str(error)
                continue
            if quote.amount_out:
                self.quotes[direction] = quote
            else:
                # DAMM v2 executes such a swap.
                self.refusals[direction] = "it pays nothing"

    @property
    def fee_ppm(self) -> int | None:
        """What the pool charges for a small swap, in the nearest millionths; None if it does not quote."""
        for quote in self.quotes.values():
            fee, of = quote.fee_in, quote.amount_in
            if not fee:
                fee, of = quote.fee_out, quote.amount_out + quote.fee_out
            return (fee * _PPM + of // 2) // of
        return None

    @property
    def refusal(self) -> str | None:
        """Why it quotes in neither direction; None if it quotes in one."""
        return None if self.quotes else next(iter(self.refusals.values()))

    def _amount(self, direction: Direction) -> int:
        """Return a small part of what the pool holds of the token that goes in."""
        sells_a = direction is Direction.A_TO_B
        amount = self.pool.vaults[0 if sells_a else 1] // _PART_OF_VAULT
        sold, _ = self.pool.opened.addresses.sides(direction)
        return max(1, min(amount, MOST_SOL) if sold.mint == WRAPPED_SOL else amount)

    def described(self) -> str:
        """Return the quotes in words."""
        said = []
        for direction, quote in self.quotes.items():
            sold, bought = self._tokens(direction)
            amount_in = format_amount(quote.amount_in, sold.decimals)
            amount_out = format_amount(quote.amount_out, bought.decimals)
            said.append(f"{amount_in} {sold.symbol} for {amount_out} {bought.symbol}")
        for direction, reason in self.refusals.items():
            sold, bought = self._tokens(direction)
            said.append(f"{sold.symbol} to {bought.symbol} is not quoted ({reason})")
        return ", ".join(said)

    def build(self, direction: Direction, trader: TrialWallet) -> BuiltTransaction:
        """Return the transaction of the quoted swap, with the limits of its leg.

        Raises:
            InvalidPlanError: The swap cannot be executed.
            TransactionTooLargeError: It has too many bytes, accounts or instructions.
        """
        pool, quote = self.pool, self.quotes[direction]
        sold, bought = self._tokens(direction)
        amounts = quote.amount_in, quote.amount_out, quote.fee_in, quote.fee_out
        leg = Leg(pool.ref.dex, pool.ref.id, sold.symbol, bought.symbol, *amounts, quote.price_impact_ppm)
        route = Route(SwapMode.EXACT_IN, leg.token_in, leg.token_out, (Path((leg,)),), leg.price_impact_ppm)
        plan = plan_of_route(
            route,
            leg_limits(route, *route.limits(_SLIPPAGE_BPS), trader.hop_margin_bps),
            {pool.ref.id: pool.opened},
            {token.symbol: Pubkey.from_string(token.mint) for token in pool.tokens},
            self._bin_arrays(direction, quote, trader.spare_arrays),
        )
        mark = mark_of(f"trial/{pool.ref.id}", 1)
        return build(plan, trader.wallet, mark, WIDEST, NO_BLOCKHASH, trader.rent)

    def _bin_arrays(
        self, direction: Direction, quote: SwapQuote[object], spare: int
    ) -> Mapping[str, tuple[int, ...]]:
        before, after = self.pool.state, quote.next_state()
        if not isinstance(before, DlmmPool) or not isinstance(after, DlmmPool):
            return {}
        return {self.pool.ref.id: arrays_to_carry(before, after, direction, spare)}

    def _tokens(self, direction: Direction) -> tuple[Token, Token]:
        a, b = self.pool.tokens
        return (a, b) if direction is Direction.A_TO_B else (b, a)


async def check_pool(pool: ReadPool, trader: TrialWallet | None, endpoints: Endpoints) -> Check:
    """Return whether a pool quotes, and its swap fits a transaction and succeeds when it is simulated.

    Args:
        pool: The pool.
        trader: Who would trade; None: no transaction is built. Only what sells SOL is simulated, since the
            wallet may hold nothing else.
        endpoints: Where to simulate.
    """
    trial = PoolTrial(pool)
    if trial.refusal is not None:
        remedy = "wait, if that may change, or take it out of SOLANA_POOLS"
        return Check.failed("pool", pool.ref.id, f"it is not quoted: {trial.refusal}", remedy)
    told = f"{pool.program}, {pair_of(pool)}, fee {percent(trial.fee_ppm)}: {trial.described()}"
    remedy = "take it out of SOLANA_POOLS; if its program has changed, wait for a newer version"
    try:
        swap = "" if trader is None else await _try(trial, trader, endpoints)
    except (TransactionTooLargeError, InvalidPlanError, _SimulationError) as error:
        return Check.failed("pool", pool.ref.id, f"{told}; its swap {error}", remedy)
    if trial.refusals:
        return Check.warning("pool", pool.ref.id, f"{told}{swap}", "expect quotes in one direction only")
    return Check.ok("pool", pool.ref.id, f"{told}{swap}")


def pair_of(pool: ReadPool) -> str:
    """Return the symbols of a pool's tokens."""
    return "/".join(token.symbol for token in pool.tokens)


def percent(fee_ppm: int | None) -> str:
    """Return millionths as a percentage."""
    return "unknown" if fee_ppm is None else f"{format_amount(fee_ppm, 4)} %"


class _SimulationError(Exception):
    """The swap would fail; the message says why, after "its swap"."""


async def _try(trial: PoolTrial, trader: TrialWallet, endpoints: Endpoints) -> str:
    """Build the swaps in both directions, simulate what sells SOL, and return what was tried, in words."""
    tried = ""
    for direction, quote in trial.quotes.items():
        built = trial.build(direction, trader)
        tried = tried or f"; a transaction of {built.size} bytes"
        sold, _ = trial.pool.opened.addresses.sides(direction)
        if sold.mint == WRAPPED_SOL and quote.amount_in <= trader.spendable:
            await _simulate(built, trial.pool.slot, endpoints)
            tried = f"; a transaction of {built.size} bytes, simulated"
    return tried


async def _simulate(built: BuiltTransaction, slot: int, endpoints: Endpoints) -> None:
    keys = built.message.account_keys
    programs = [keys[each.program_id_index] for each in built.message.instructions]
    try:
        simulation = await simulate(endpoints, built.signed_bytes, programs, slot)
    except (RpcError, VenueUnavailableError) as error:
        raise _SimulationError(f"cannot be simulated: {error}") from error
    if simulation.error is not None:
        raise _SimulationError(f"fails when it is simulated: {simulation.error}")
