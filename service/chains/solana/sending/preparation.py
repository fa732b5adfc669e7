"""What nodes are asked before a transaction is signed: the simulation, recent fees, the blockhash."""

import asyncio
import base64
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from solders.pubkey import Pubkey
from solders.signature import Signature

from service.chains.solana.blockhashes import MalformedBlockhashError, RecentBlockhash, read_blockhash
from service.chains.solana.fees import MalformedFeesError, read_recent_fees
from service.chains.solana.rpc.answers import Answer, NotAnAnswerError, reading
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.simulation import MalformedSimulationError, Simulation, read_simulation
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES
from service.clock import Clock

FEES_KEPT_S = 5.0
"""How long the recent fees of an account are used before they are asked for again."""

RENT_KEPT_S = 600.0
"""How long a token account's rent is used before it is asked for again."""

MOST_RENT = 20_000_000
"""Lamports; ten times of what a token account ever needed, so that one absurd answer locks up nothing."""

_Found = TypeVar("_Found")

_KEPT_ACCOUNTS = 1_000
# But the node must say which.
_ANY_SLOT = 0
_SIMULATE = {
    "encoding": "base64",
    "sigVerify": False,
    "replaceRecentBlockhash": True,
    "commitment": "processed",
}


async def simulate(
    endpoints: Endpoints, message: bytes, programs: Sequence[Pubkey], min_slot: int
) -> Simulation:
    """Simulate a transaction that is not signed yet.

    Args:
        endpoints: Those of the cluster.
        message: The version 1 message, with any blockhash.
        programs: The programs of its instructions, in their sequence.
        min_slot: The slot of the state that the route was quoted from; no older one is used.

    Raises:
        RpcError: The nodes refuse the transaction's form.
        VenueUnavailableError: No node told what it would do.
    """
    raw = base64.b64encode(message + bytes(Signature.LENGTH)).decode("ascii")
    answer = await endpoints.read(
        "simulateTransaction",
        [raw, {**_SIMULATE, "minContextSlot": min_slot}],
        min_slot=min_slot,
        parse=reading(lambda answer: read_simulation(answer.result, programs), MalformedSimulationError),
    )
    simulation: Simulation = answer.result
    return simulation


async def latest_blockhash(endpoints: Endpoints) -> RecentBlockhash:
    """Return the newest confirmed blockhash.

    Confirmed, since one of the newest block may be of a fork that does not stay.

    Raises:
        RpcError: The nodes refuse the call.
        VenueUnavailableError: No node answered.
    """
    answer = await endpoints.read(
        "getLatestBlockhash",
        [{"commitment": "confirmed"}],
        min_slot=_ANY_SLOT,
        parse=reading(
            lambda answer: read_blockhash(answer.result, answer.slot or 0), MalformedBlockhashError
        ),
    )
    recent: RecentBlockhash = answer.result
    return recent


class SharedCalls(Generic[_Found]):
    """Calls that all callers of one moment share, also if they fail or some callers are cancelled."""

    def __init__(self) -> None:
        self._running: dict[object, asyncio.Task[_Found]] = {}

    async def share(self, key: object, call: Callable[[], Coroutine[Any, Any, _Found]]) -> _Found:
        """Return what the call of a key that is running returns; begin one if there is none."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(call(), name="solana shared call")
            task.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(task)

    def _end(self, key: object, done: asyncio.Task[_Found]) -> None:
        del self._running[key]
        if not done.cancelled():
            # Its callers may all have been cancelled.
            done.exception()


class TokenAccountRent:
    """What makes a token account rent-exempt; it changes with the cluster's releases.

    Args:
        endpoints: Those of the cluster.
        clock: Measures how old an answer is.
    """

    def __init__(self, endpoints: Endpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._known: tuple[float, int] | None = None
        self._calls = SharedCalls[int]()

    async def lamports(self) -> int:
        """Return it, asked for at most once in ten minutes.

        Raises:
            RpcError: The nodes refuse the call.
            VenueUnavailableError: No node answered.
        """
        if self._known is not None and self._clock.monotonic() - self._known[0] < RENT_KEPT_S:
            return self._known[1]
        return await self._calls.share("rent", self._ask)

    def forget(self) -> None:
        """Ask again the next time: what was answered may have been wrong."""
        self._known = None

    async def _ask(self) -> int:
        now = self._clock.monotonic()
        answer = await self._endpoints.read(
            "getMinimumBalanceForRentExemption", [TOKEN_ACCOUNT_BYTES], parse=_rent
        )
        rent: int = answer.result
        self._known = now, rent
        return rent


def _rent(answer: Answer) -> int:
    rent = answer.result
    if type(rent) is not int or not 0 < rent <= MOST_RENT:
        raise NotAnAnswerError("it answered with what is no rent")
    return rent


class RecentFees:
    """The recent priority fees of accounts, asked for at most once in five seconds each.

    Args:
        endpoints: Those of the cluster.
        clock: Measures how old an answer is.
    """

    def __init__(self, endpoints: Endpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._known: dict[Pubkey, tuple[float, list[int]]] = {}
        self._calls = SharedCalls[list[int]]()

    async def of(self, accounts: Sequence[Pubkey]) -> list[list[int]]:
        """Return the fees of recent blocks for each account, by a call for each.

        Raises:
            RpcError: The nodes refuse the call.
            VenueUnavailableError: No node answered.
        """
        return await asyncio.gather(*map(self._of_one, accounts))

    async def _of_one(self, account: Pubkey) -> list[int]:
        known = self._known.get(account)
        if known is not None and self._clock.monotonic() - known[0] < FEES_KEPT_S:
            return known[1]
        return await self._calls.share(account, lambda: self._ask(account))

    async def _ask(self, account: Pubkey) -> list[int]:
        now = self._clock.monotonic()
        answer = await self._endpoints.read(
            "getRecentPrioritizationFees",
            [[str(account)]],
            parse=reading(lambda answer: read_recent_fees(answer.result), MalformedFeesError),
        )
        fees: list[int] = answer.result
        self._known.pop(account, None)
        self._known[account] = now, fees
        if len(self._known) > _KEPT_ACCOUNTS:
            del self._known[next(iter(self._known))]
        return fees
