"""POST /api/orders/execute?dryRun=true: what placing an order would do, without doing it.

It runs the code that places, quotes and checks orders, and calls nothing that writes. What would refuse the
order is collected, so that a client sees all of it at once. A further check of what is stored is one more
method like ``_halted``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web

from service.api.access import CALLER
from service.api.dry_run_schemas import DRY_RUN
from service.api.idempotency import read_key
from service.api.market_schemas import QUOTE
from service.api.messages import json_response, read_body
from service.api.placing import Placed, Placer, trading_is_halted
from service.api.problems import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    ProblemError,
    problem_json,
)
from service.api.quotes import problem_of, quote_json
from service.api.responses import ORDER
from service.api.views import OrderAt
from service.chains.venue import Balance, VenueUnavailableError, Wallet
from service.clock import Clock
from service.domain.amounts import format_amount
from service.domain.api_key import Caller
from service.domain.failures import Failure, FailureCode
from service.domain.order import NewOrder, Order
from service.domain.quote import Choice, Route, SwapMode
from service.domain.routing_record import FeeJson
from service.domain.timestamps import format_epoch
from service.domain.tokens import TOKENS
from service.execution.best_quote import AttemptFailedError, Demand, failure_of, find_choice, lower_limit
from service.routing.quoting import Quoter
from service.store.halt import TradingHalt


@dataclass(frozen=True, slots=True)
class DryRun:
    """Runs orders dry.

    ``max_price_impact_bps`` is the highest price impact for all orders; None: no limit.
    """

    placer: Placer
    halt: TradingHalt
    quoter: Quoter
    wallet: Wallet
    clock: Clock
    max_price_impact_bps: int | None

    async def execute(self, request: web.Request) -> web.Response:
        """POST /api/orders/execute?dryRun=true."""
        # Checked like that of an order, and not used: nothing is stored under it.
        await read_key(request)
        caller, body = request[CALLER], await read_body(request)
        try:
            order = await self.placer.read(caller, body)
        except (InvalidError, ConflictError) as problem:
            return _response([problem])
        if isinstance(order, Placed):
            return _response([], order=order.order, repeats=True)
        taken = None
        try:
            repeated = await self.placer.find_repeated(order)
        except ConflictError as conflict:
            taken, repeated = conflict, None
        if repeated is not None:
            return _response([], order=repeated.order, repeats=True)
        refusal = self.placer.refusal_of(caller, order) or await self._over_budget(caller, order)
        refusals = [taken, refusal, await self._halted()]
        return await self._run(order, [refusal for refusal in refusals if refusal is not None])

    async def _run(self, order: NewOrder, refusals: list[ProblemError]) -> web.Response:
        """Quote an order, and return the response.

        Args:
            order: The order.
            refusals: Why it would not be placed.
        """
        balance = await self._balance(order.token_in)
        choice, failure = await self._quote(order)
        needed = _input(order, choice)
        unpayable = None if balance is None else self.placer.funds.refusal_of(order, balance)
        if unpayable is not None:
            refusals.append(unpayable)
        elif balance is not None and needed is not None and balance.free < needed:
            failure = failure or Failure.of(FailureCode.INSUFFICIENT_BALANCE)
        if failure is not None and not order.opens:
            # An order that rests or awaits approval is quoted when it executes, which may be much later.
            refusals.append(problem_of(failure))
        return _response(
            refusals,
            order=self._order(order),
            rests=order.rests,
            balance=None if balance is None else format_amount(balance.total, order.decimals_in),
            fees=None if choice is None else _fees(choice.route),
            quote=None if choice is None else self._quote_json(order, choice),
        )

    async def _halted(self) -> ProblemError | None:
        """Return the problem of an order that is placed while trading is halted; None if it is not."""
        halt = await self.halt.read()
        return None if halt is None else trading_is_halted(halt.reason)

    async def _over_budget(self, caller: Caller, order: NewOrder) -> ProblemError | None:
        """Return the problem of an order that would not keep a budget of its key, or a day's limit, now."""
        breach = await self.placer.budgets.breach_now(caller, order)
        return await self.placer.day_limits.examine(order) if breach is None else ForbiddenError.of(breach)

    async def _balance(self, token: str) -> Balance | None:
        """Return what the wallet holds of a token; None if it is not known."""
        try:
            return await self.wallet.balance(token)
        except VenueUnavailableError:
            return None

    async def _quote(self, order: NewOrder) -> tuple[Choice | None, Failure | None]:
        """Return the best route now, and why an attempt on it would fail."""
        demand = Demand(
            order.swap_mode,
            order.token_in,
            order.token_out,
            order.amount,
            order.terms.limit_out,
            lower_limit(order.max_price_impact_bps, self.max_price_impact_bps),
        )
        try:
            choice = await find_choice(demand, self.quoter)
        except AttemptFailedError as end:
            return None, end.failure
        return choice, failure_of(demand, choice)

    def _order(self, order: NewOrder) -> dict[str, object]:
        """Return the order as a client would get it; without an id, since there is none."""
        at = format_epoch(self.clock.database_time())
        return {**ORDER.dump(OrderAt(Order.accepted(order, at))), "id": None, "orderId": None}

    def _quote_json(self, order: NewOrder, choice: Choice) -> object:
        terms, now = order.terms, self.clock.database_time()
        return QUOTE.dump(quote_json(choice, now, terms.slippage_bps, terms.limit_out))


def _input(order: NewOrder, choice: Choice | None) -> int | None:
    """Return what an order would pay now, in base units; None if it is not known."""
    if choice is not None:
        return choice.route.amount_in
    return order.amount if order.swap_mode is SwapMode.EXACT_IN else None


def _fees(route: Route) -> list[FeeJson]:
    """Return a route's fees, by token."""
    fees: dict[str, int] = defaultdict(int)
    for leg in route.legs:
        fees[leg.token_in] += leg.fee_in
        fees[leg.token_out] += leg.fee_out
    return [
        {"token": token, "amount": format_amount(fee, TOKENS[token].decimals)}
        for token, fee in fees.items()
        if fee
    ]


def _response(
    refusals: Iterable[ProblemError],
    *,
    order: Mapping[str, object] | None = None,
    repeats: bool = False,
    rests: bool | None = None,
    balance: str | None = None,
    fees: list[FeeJson] | None = None,
    quote: object = None,
) -> web.Response:
    problems = [problem_json(refusal) for refusal in refusals]
    body = {
        "dry_run": True,
        "accepted": not problems,
        "refusals": problems,
        "repeats": repeats,
        "rests": rests,
        "order": order,
        "balance": balance,
        "fees": fees,
        "quote": quote,
    }
    return json_response(DRY_RUN.dump(body))
