"""What the wallet holds: its SOL, and its own accounts of the tokens that some pool trades.

Balances are those of the last confirmed block, read at most once in a second, whoever asks. What is in flight
is the most that transactions may still take which that block does not have yet. Fees and rent come out of the
reserve of SOL.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from service.amm import AmmError
from service.chains.holding import Holding
from service.chains.solana.addresses import TOKEN_PROGRAM, WRAPPED_SOL, associated_token_account
from service.chains.solana.feed.accounts import MOST_KEYS, OwnedData, read_accounts
from service.chains.solana.feed.feed import SolanaFeed
from service.chains.solana.feed.pools import TradedMint
from service.chains.solana.feed.slots import MOST_AHEAD
from service.chains.solana.payment import Payment, payment_of
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.tracker import Tracker
from service.chains.solana.tokens import token_amount
from service.chains.venue import Balance, VenueUnavailableError
from service.clock import Clock
from service.domain.tokens import TOKENS, Token

SOL = TOKENS["SOL"]

KEPT_S = 1.0
"""How long balances are used before they are read again."""


@dataclass(frozen=True, slots=True)
class _Holdings:
    """What the wallet held in one slot, by token; tokens that it has never held are left out.

    Attributes:
        slot: The slot; of several reads the oldest.
        read_at: When it was asked for, by the monotonic clock.
        asked: The tokens that were asked for.
        amounts: Base units.
    """

    slot: int
    read_at: float
    asked: frozenset[str]
    amounts: Mapping[str, int]


class SolanaWallet:
    """Reads the balances of one wallet.

    Args:
        address: The wallet.
        endpoints: Where to read.
        feed: Knows the tokens.
        tracker: Knows what is in flight.
        programs: The cluster's AMM programs.
        clock: Measures how old balances are.
        sol_reserve: Lamports that no order sells.
    """

    def __init__(
        self,
        address: Pubkey,
        endpoints: Endpoints,
        feed: SolanaFeed,
        tracker: Tracker,
        programs: AmmPrograms,
        clock: Clock,
        *,
        sol_reserve: int,
    ) -> None:
        self._address = address
        self._endpoints = endpoints
        self._feed = feed
        self._tracker = tracker
        self._programs = programs
        self._clock = clock
        self._reserve = sol_reserve
        self._holdings: _Holdings | None = None
        self._reading = asyncio.Lock()
        self._payments: dict[str, Payment] = {}

    async def balance(self, token: str) -> Balance:
        """Return what the wallet holds of a token; concurrent calls share a read.

        Raises:
            VenueUnavailableError: No node answered.
        """
        held = await self._held()
        return self._balance(token, held, self._in_flight(held.slot))

    async def balances(self, limit: int, after: str | None = None) -> Sequence[tuple[Token, Balance]]:
        """Return what the wallet holds of the tokens that it has an account of, by their symbols.

        Args:
            limit: The maximum number of tokens.
            after: Begin after this token; None: with the first.

        Raises:
            VenueUnavailableError: No node answered.
        """
        held = await self._held()
        mints = self._mints()
        in_flight = self._in_flight(held.slot)
        names = sorted(name for name in held.amounts if name in mints and (after is None or name > after))
        return [(mints[name].token, self._balance(name, held, in_flight)) for name in names[:limit]]

    async def holdings(self) -> list[Holding]:
        """Return what the wallet held in the last finalized block, of SOL and of all tokens that pools trade.

        Raises:
            VenueUnavailableError: No node answered.
        """
        accounts = {self._account(each): (name, each) for name, each in self._mints().items()}
        keys = list(accounts)
        found = []
        try:
            for start in range(0, len(keys), MOST_KEYS):
                asked = keys[start : start + MOST_KEYS]
                read = await read_accounts(self._endpoints, asked, commitment="finalized")
                found += [(key, read.slot, self._amount(key, read.accounts.get(key))) for key in asked]
        except (RpcError, AmmError) as error:
            raise VenueUnavailableError(f"the wallet cannot be read: {error}") from error
        return [
            Holding(str(accounts[key][1].mint), accounts[key][0], str(key), slot, amount)
            for key, slot, amount in found
        ]

    async def can_pay(self, token: str, amount: int) -> bool:
        """Return whether an amount of a token is free; before it says no, it reads again.

        Raises:
            VenueUnavailableError: No node answered.
        """
        held = await self._held()
        if self._balance(token, held, self._in_flight(held.slot)).free >= amount:
            return True
        held = await self._held(newer_than=held)
        return self._balance(token, held, self._in_flight(held.slot)).free >= amount

    def _balance(self, token: str, held: _Holdings, in_flight: Mapping[str, int]) -> Balance:
        return Balance.of(
            held.amounts.get(token, 0),
            in_flight=in_flight.get(token, 0),
            reserve=self._reserve if token == SOL.symbol else 0,
        )

    def _in_flight(self, slot: int) -> Counter[str]:
        """Return the most that transactions may take which a slot's balances do not show, by token."""
        # Every order asks, while most of what is in flight waits in a block until that is final.
        flights = self._tracker.not_in_block(slot)
        self._payments = {
            sent.signature: self._payments.get(sent.signature) or payment_of(sent.raw, self._programs)
            for sent in flights
        }
        owned = {self._account(each): name for name, each in self._mints().items()}
        taken: Counter[str] = Counter()
        for payment in self._payments.values():
            token = SOL.symbol if payment.source is None else owned.get(payment.source)
            # Of a token that no pool trades any more no balance is shown either.
            if token is not None:
                taken[token] += payment.amount
        return taken

    def _mints(self) -> dict[str, TradedMint]:
        """Return the tokens by symbol; SOL, which pays the fees, also if no pool trades it."""
        sol = TradedMint(SOL, WRAPPED_SOL, TOKEN_PROGRAM)
        return {SOL.symbol: sol, **self._feed.mints}

    def _account(self, each: TradedMint) -> Pubkey:
        """Return the account that holds a token; SOL is held by the wallet itself."""
        if each.mint == WRAPPED_SOL:
            return self._address
        return associated_token_account(self._address, each.mint, each.program)

    def _amount(self, key: Pubkey, account: OwnedData | None) -> int:
        if account is None:
            return 0
        return account.lamports if key == self._address else token_amount(account.data)

    async def _held(self, newer_than: _Holdings | None = None) -> _Holdings:
        async with self._reading:
            known, mints = self._holdings, self._mints()
            if (
                known is not None
                and known is not newer_than
                and self._clock.monotonic() - known.read_at < KEPT_S
                and known.asked == mints.keys()
            ):
                return known
            self._holdings = await self._read(mints, self._oldest_slot())
            return self._holdings

    def _oldest_slot(self) -> int | None:
        """Return the slot of what is known: nothing older is read, whichever node answers.

        One far after the slot now was absurd: no node would ever get there.
        """
        known = self._holdings
        plausible = known is not None and known.slot <= self._feed.slots.now() + MOST_AHEAD
        return known.slot if known is not None and plausible else None

    async def _read(self, mints: Mapping[str, TradedMint], min_slot: int | None) -> _Holdings:
        began = self._clock.monotonic()
        accounts = {name: self._account(each) for name, each in mints.items()}
        found: dict[Pubkey, OwnedData] = {}
        slots: list[int] = []
        keys = list(accounts.values())
        try:
            for start in range(0, len(keys), MOST_KEYS):
                read = await read_accounts(
                    self._endpoints,
                    keys[start : start + MOST_KEYS],
                    min_slot=min_slot,
                    commitment="confirmed",
                )
                found.update(read.accounts)
                slots.append(read.slot)
            amounts = {
                name: self._amount(account, found[account])
                for name, account in accounts.items()
                if account in found
            }
        except (RpcError, AmmError) as error:
            raise VenueUnavailableError(f"the wallet cannot be read: {error}") from error
        return _Holdings(min(slots, default=0), began, frozenset(mints), amounts)
