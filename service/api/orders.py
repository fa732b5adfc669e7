"""Orders over REST: place, read and list."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import NoReturn

from aiohttp import web

from service.api.access import CALLER, visible_account
from service.api.fields import is_uuid
from service.api.idempotency import check_same_request, read_key, replayed
from service.api.messages import FetchTokens, json_response, load_body, load_query
from service.api.pages import Pages
from service.api.problems import ConflictError, InvalidError, NotFoundError, ServiceUnavailableError
from service.api.requests import LIST_QUERY, NEW_ORDER, SentOrder
from service.api.responses import ORDER
from service.api.terms import read_terms, values
from service.api.views import OrderAt
from service.clock import Clock
from service.domain.api_key import Caller
from service.domain.idempotency import IdempotencyKey
from service.domain.order import NewOrder, Order, first_terms, submission_time_s
from service.domain.timestamps import format_timestamp
from service.domain.tokens import TOKENS
from service.execution.order_queue import OrderQueue
from service.postgres.batch import QueueFullError
from service.postgres.database import UnavailableError
from service.store.endings import Filter
from service.store.halt import HaltedError
from service.store.idempotency import IdempotencyKeys
from service.store.journal import Journal, RepeatedOrderError
from service.store.orders import Orders


@dataclass(frozen=True, slots=True)
class OrderRoutes:
    """The handlers of the routes that place and read orders.

    ``fetch_tokens`` fetches unknown tokens that a request names, ``queue`` wakes workers for new orders;
    ``insert_timeout_s`` is how long a client waits for PostgreSQL; ``market_order_age_s`` is the maximum age
    at which a market order is submitted, 0: no limit.
    """

    journal: Journal
    orders: Orders
    pages: Pages
    clock: Clock
    fetch_tokens: FetchTokens
    queue: OrderQueue
    idempotency: IdempotencyKeys
    insert_timeout_s: float
    market_order_age_s: int = 0

    async def execute(self, request: web.Request) -> web.Response:
        """POST /api/orders/execute: place an order; it is durable once the response is 201."""
        key = await read_key(request)
        account = request[CALLER].account
        try:
            sent = await load_body(request, NEW_ORDER, self.fetch_tokens)
        except InvalidError as refusal:
            # The token may have been removed since it was placed.
            return await self._replay(account, key) or _reject(refusal)
        try:
            order = self._new_order(account, sent, datetime.fromtimestamp(self.clock.database_time(), UTC))
        except InvalidError as refusal:
            return await self._replay(account, key) or await self._reject_unless_repeated(
                account, sent, refusal
            )
        order = replace(order, idempotency=key)
        try:
            created_at = await self.journal.insert(order, self.insert_timeout_s)
        except RepeatedOrderError:
            return await self._replay(account, key) or await self._answer_repeated(order)
        except HaltedError as halt:
            return await self._replay(account, key) or await self._refuse_while_halted(order, halt)
        except QueueFullError:
            raise ServiceUnavailableError("Too many orders are waiting to be stored; try again.") from None
        except UnavailableError as error:
            if not error.unknown:
                raise
            raise ServiceUnavailableError(
                "It is unknown whether the order was stored: look it up by its id.", orderId=order.id
            ) from error
        if not order.rests:
            await self.queue.enqueue([order.id])
        return json_response(ORDER.dump(OrderAt(Order.accepted(order, created_at))), HTTPStatus.CREATED)

    async def get(self, request: web.Request) -> web.Response:
        """GET /api/orders/{orderId}."""
        order_id = request.match_info["order_id"].lower()
        order = await self.orders.get(order_id) if is_uuid(order_id) else None
        return _found(order, request[CALLER])

    async def get_by_client_id(self, request: web.Request) -> web.Response:
        """GET /api/orders/by-client-id/{clientOrderId}: of the caller's own account."""
        client_order_id, caller = request.match_info["client_order_id"], request[CALLER]
        order = None
        # PostgreSQL's text cannot contain this character, so no order has it in its id.
        if "\0" not in client_order_id:
            order = await self.orders.find_by_client_id(caller.account, client_order_id)
        return _found(order, caller)

    async def list(self, request: web.Request) -> web.Response:
        """GET /api/orders?status=&orderType=&tokenIn=&tokenOut=&limit=&cursor=, newest first."""
        await self.fetch_tokens(request.query)
        query = load_query(request, LIST_QUERY)
        wanted = Filter(
            visible_account(request[CALLER], query["account"]),
            query["order_type"],
            query["token_in"],
            query["token_out"],
            query["label"],
        )
        page = await self.orders.page(query["status"], wanted, query["limit"], query["cursor"])
        return await self.pages.write(page, query["status"])

    async def _replay(self, account: str, key: IdempotencyKey | None) -> web.Response | None:
        """Return the response that was sent under an idempotency key; None if there was none.

        Raises:
            InvalidError: The key was used for another request.
        """
        stored = None if key is None else await self.idempotency.find(account, key.key)
        if key is None or stored is None:
            return None
        check_same_request(key, stored)
        order = None if stored.order_id is None else await self.orders.get(stored.order_id)
        if order is None:
            # The client order id was taken: the response follows from that, each time.
            return None
        return replayed(json_response(ORDER.dump(OrderAt(order, 1)), HTTPStatus.CREATED))

    def _new_order(self, account: str, sent: SentOrder, now: datetime | None) -> NewOrder:
        """Build the order from a request, with its terms in stored form; see ``read_terms``."""
        bought = TOKENS.get(sent["token_out"])
        order = NewOrder(
            id=self.clock.new_order_id(),
            account=account,
            client_order_id=sent["client_order_id"],
            label=sent["label"],
            order_type=sent["order_type"],
            token_in=sent["token_in"],
            token_out=sent["token_out"],
            swap_mode=sent["swap_mode"],
            amount=sent["amount"],
            amount_text=sent["amount_text"],
            terms=read_terms(sent, now),
            decimals_in=TOKENS[sent["token_in"]].decimals,
            decimals_out=None if bought is None else bought.decimals,
        )
        within_s = submission_time_s(order, self.market_order_age_s)
        if now is None or within_s is None:
            return order
        # Counted from here: if PostgreSQL is unavailable, the order may be stored much later.
        return replace(order, submit_by=format_timestamp(now + timedelta(seconds=within_s)))

    async def _refuse_while_halted(self, order: NewOrder, halt: HaltedError) -> web.Response:
        """Refuse an order while trading is halted, unless it repeats one that was placed before."""
        named = order.client_order_id is not None
        if (
            named
            and await self.orders.find_by_client_id(order.account, order.client_order_id or "") is not None
        ):
            return await self._answer_repeated(order)
        raise ServiceUnavailableError(f"Trading is halted: {halt}")

    async def _reject_unless_repeated(
        self, account: str, sent: SentOrder, refusal: InvalidError
    ) -> web.Response:
        """Reject an invalid order, unless it repeats one that was placed while its terms were still valid."""
        if sent["client_order_id"] is None:
            raise refusal
        try:
            order = self._new_order(account, sent, None)
        except InvalidError:
            raise refusal from None
        if await self.orders.find_by_client_id(account, sent["client_order_id"]) is None:
            raise refusal
        return await self._answer_repeated(order)

    async def _answer_repeated(self, order: NewOrder) -> web.Response:
        """Answer a repeated client order id: with the stored order, if the request is the same."""
        stored = await self.orders.find_by_client_id(order.account, order.client_order_id or "")
        same = stored is not None and stored.is_same_swap(order)
        if stored is None or not same or values(first_terms(stored)) != values(order.terms):
            raise ConflictError("This clientOrderId names another order.")
        return json_response(ORDER.dump(OrderAt(stored)))


def _reject(refusal: InvalidError) -> NoReturn:
    raise refusal


def _found(order: Order | None, caller: Caller) -> web.Response:
    if order is None or not caller.may_see(order.account):
        raise NotFoundError("There is no such order.")
    return json_response(ORDER.dump(OrderAt(order)))
