"""The swaps of a smoke test: each way on one pool of each program, and over two pools at once."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from service.app import Service
from service.chains.venue import PoolView
from service.domain.lifecycle import Status
from service.smoke.client import Json, OrderClient
from service.smoke.pinned import PinnedQuoter
from service.smoke.report import SmokeReport, StepFailedError, StepSkippedError
from service.smoke.rig import PATIENCE_S, Rig
from service.solana_settings import Cluster

SOL = "SOL"
PROGRAMS = ("raydium_cpmm", "raydium_amm_v4", "meteora_dlmm", "meteora_damm_v2")

_FAUCET = "https://faucet.solana.com"
_AIRDROP_LAMPORTS = 10**9
_AIRDROP_S = 60.0
_LOOK_EVERY_S = 1.0
# The reason of orders that were only simulated, as the settings may have it.
_SIMULATED = "simulated"


@dataclass(slots=True)
class SwapsDone:
    """What the swaps leave to the steps after them.

    Attributes:
        token: What can be bought with SOL; None: no swap has succeeded.
        bought: How much of it the split has left in the wallet, in display units; None: nothing.
        costs: What all orders have cost beside their swaps, in SOL.
        simulated: Whether orders are only simulated.
    """

    token: str | None = None
    bought: str | None = None
    costs: Decimal = Decimal()
    simulated: bool = False

    def note_cost(self, order: Json) -> None:
        """Add what an order has cost."""
        self.costs += Decimal(order["networkCost"] or 0)


async def trade(rig: Rig, report: SmokeReport) -> SwapsDone:
    """Start an instance in this process and run its steps; return what they leave."""
    async with AsyncExitStack() as stack:
        trader: Trader | None = None

        async def start() -> Sequence[str]:
            nonlocal trader
            trader = Trader(rig, *await stack.enter_async_context(rig.service()))
            return [f"{len(trader.pools)} pools with SOL can be quoted"]

        await report.run("Start of the service", start)
        if trader is None:
            return SwapsDone()
        if await report.run("Funds", trader.fund):
            await report.run("Doctor", partial(_examine, rig))
            for program in PROGRAMS:
                await report.run(f"A swap each way, {program}", partial(trader.swap_each_way, program))
            await report.run("A split over two pools", trader.split)
        return trader.done


async def _examine(rig: Rig) -> Sequence[str]:
    """Return what the doctor finds, without what is as it should be."""
    return [line for line in await rig.run_command("doctor") if not line.startswith("ok ")]


class Trader:
    """Swaps through pools that it chooses.

    Attributes:
        pools: Those that trade SOL, by how much of it they have, the largest first.
        done: What was done so far.

    Args:
        rig: What the test runs on.
        service: The instance, in this process.
        client: Its client.
    """

    def __init__(self, rig: Rig, service: Service, client: OrderClient) -> None:
        self._rig = rig
        self._service = service
        self._client = client
        self._amount = rig.options.amount
        self.done = SwapsDone()
        _, views = service.market.venue.all_views()
        self.pools = sorted((view for view in views if SOL in _tokens(view)), key=_sol_in, reverse=True)

    async def fund(self) -> Sequence[str]:
        """Check that the wallet can pay a swap; on devnet ask for an airdrop if it cannot.

        Raises:
            StepFailedError: It cannot.
        """
        wallet = str(self._service.market.venue.address)
        lines = [f"the wallet is {wallet}"]
        if not await self._can_pay():
            if self._rig.options.cluster is not Cluster.DEVNET:
                raise StepFailedError(f"{wallet} has less than {self._amount} SOL beside its reserve")
            await self._airdrop(wallet)
            lines.append("devnet has given it 1 SOL")
        held = await self._client.balances()
        return [*lines, ", ".join(f"{amount:f} {token}" for token, amount in held.items() if amount)]

    async def swap_each_way(self, program: str) -> Sequence[str]:
        """Sell SOL in a program's largest pool, and sell there what it paid.

        Raises:
            StepFailedError: A swap failed.
            StepSkippedError: There is no such pool.
        """
        pool = next((each for each in self.pools if each.program == program), None)
        if pool is None:
            raise StepSkippedError("no pool of it that trades SOL is listed and can be quoted")
        token = _other(pool)
        pinned = [pool.pool.id]
        there = await self._swap(SOL, token, self._amount, pinned)
        if self.done.simulated:
            return [*lines_of(there), "only simulated, so there is nothing to sell back"]
        back = await self._swap(token, SOL, there["amountOut"], pinned)
        self.done.token = self.done.token or token
        return [f"pool {pool.pool.id}", *lines_of(there), *lines_of(back)]

    async def split(self) -> Sequence[str]:
        """Sell SOL in two pools at once, half of the amount in each.

        Raises:
            StepFailedError: The swap failed, or did not take both.
            StepSkippedError: There are no two such pools.
        """
        two = self._two_pools()
        pinned = [each.pool.id for each in two]
        token = _other(two[0])
        order = await self._swap(SOL, token, self._amount, pinned)
        paths = order["route"]["paths"]
        if sorted(leg["poolId"] for path in paths for leg in path["legs"]) != sorted(pinned):
            raise StepFailedError(f"order {order['id']} did not go through {' and '.join(pinned)}")
        if not self.done.simulated:
            self.done.token, self.done.bought = token, order["amountOut"]
        return [*(f"{each.program} pool {each.pool.id}" for each in two), *lines_of(order)]

    def _two_pools(self) -> Sequence[PoolView]:
        """Return two large pools of the same pair, of different programs if there are such.

        Raises:
            StepSkippedError: There are no two.
        """
        by_token: dict[str, list[PoolView]] = defaultdict(list)
        for pool in self.pools:
            by_token[_other(pool)].append(pool)
        found = []
        for first, *others in by_token.values():
            unlike = [each for each in others if each.program != first.program]
            found += [(first, second) for second in (unlike or others)[:1]]
        if not found:
            raise StepSkippedError("no two pools that can be quoted trade SOL with the same token")
        return max(found, key=lambda two: (two[0].program != two[1].program, _sol_in(two[1])))

    async def _swap(self, token_in: str, token_out: str, amount: str, pinned: Sequence[str]) -> Json:
        """Execute a market order through pools, and return it.

        Raises:
            StepFailedError: It was not executed.
        """
        quoter = self._service.market.quoter
        if not isinstance(quoter, PinnedQuoter):
            raise TypeError(type(quoter))
        quoter.pinned = pinned
        order_id = await self._client.place(
            tokenIn=token_in, tokenOut=token_out, amountIn=amount, orderType="market"
        )
        order = await self._client.end_of(order_id, PATIENCE_S)
        self.done.note_cost(order)
        if order["failureReason"] == _SIMULATED:
            self.done.simulated = True
        elif order["status"] != Status.CONFIRMED:
            raise StepFailedError(unexpected_end(order))
        return order

    async def _can_pay(self) -> bool:
        page = await self._client.get("/api/balances?limit=500")
        free = [Decimal(each["free"]) for each in page["balances"] if each["token"] == SOL]
        return sum(free, Decimal()) >= Decimal(self._amount)

    async def _airdrop(self, wallet: str) -> None:
        refusals = []
        for endpoint in self._rig.endpoints.readers:
            try:
                await self._rig.ask(endpoint, "requestAirdrop", wallet, _AIRDROP_LAMPORTS)
                break
            except StepFailedError as refusal:
                refusals.append(str(refusal))
        else:
            raise StepFailedError(
                f"{wallet} has less than {self._amount} SOL beside its reserve, and no endpoint gives it some"
                f" ({'; '.join(refusals)}): send it SOL from {_FAUCET}, and start the smoke test again"
            )
        give_up = self._rig.clock.monotonic() + _AIRDROP_S
        while not await self._can_pay():
            if self._rig.clock.monotonic() > give_up:
                raise StepFailedError(
                    f"the airdrop to {wallet} did not arrive: send it SOL from {_FAUCET} instead"
                )
            await self._rig.clock.sleep(_LOOK_EVERY_S)


def unexpected_end(order: Json) -> str:
    """Return in words how an order ended that should have ended otherwise."""
    why = " ".join(filter(None, (order["failureReason"], order["failureDetail"])))
    return f"order {order['id']} is {order['status']} after {order['attempts']} attempts: {why}"


def lines_of(order: Json) -> list[str]:
    """Return in words what an order that was executed, or only simulated, has swapped."""
    if order["failureReason"] == _SIMULATED:
        would = order["statusHistory"][-1].get("simulated") or {}
        swap = f"{would.get('amountIn', order['amountIn'])} {order['tokenIn']} would have bought"
        bought = f"{would.get('amountOut') or 'an unknown amount of'} {order['tokenOut']}"
        return [f"{swap} {bought}; order {order['id']} was only simulated"]
    bought = order["amountOut"] or "nothing, of"
    cost = f"{order['networkCost'] or 0} SOL for the network"
    swap = f"{order['amountIn']} {order['tokenIn']} for {bought} {order['tokenOut']}, {cost}"
    return [f"{swap}; order {order['id']}, transaction {order['txHash']}"]


def _tokens(view: PoolView) -> tuple[str, str]:
    return view.pool.token_a, view.pool.token_b


def _other(view: PoolView) -> str:
    a, b = _tokens(view)
    return b if a == SOL else a


def _sol_in(view: PoolView) -> int:
    return view.amount_a if view.pool.token_a == SOL else view.amount_b
