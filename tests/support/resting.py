"""Limit and sniper orders of every kind, as a client places, amends and cancels them.

Each run of a service has its own token, without arbitrage: listing its second pool makes waiting orders
executable. The responses that clients received determine the allowed final statuses of each order.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from tests.support.kills import Client, RequestResult, share_out
from tests.support.orders import Json
from tests.support.process import ServiceProcess

FIRST_PRICE = 2_000
"""A run's token: how many for one SOL, in its first pool."""
SECOND_PRICE = 3_400
"""The same in its second pool."""

_SUPPLY = 1_000_000

RESTING_POINTS = {
    "before fire": 4,
    "after fire": 4,
    "before open": 1,
    "after open": 1,
    "before expired": 1,
    "after expired": 1,
    "before request cancel": 4,
    "after request cancel": 4,
    "before end cancelled": 6,
    "after end cancelled": 6,
    "before end expired": 6,
    "after end expired": 6,
    "before amend": 4,
    "after amend": 4,
}
"""The crash points reached only by orders that rest, are cancelled or expire, and how often."""

REQUEST_POINTS = {
    "before reserve": 5,
    "after reserve": 5,
    "before store response": 3,
    "after store response": 3,
    "before set timer": 1,
    "after set timer": 1,
    "before end timer": 1,
}
"""The crash points that only such requests reach, and the maximum number of times to pass one."""


class Kind(StrEnum):
    """An order's kind, with its expected outcome."""

    MARKET = "market"
    PAID = "limit, payable at once"
    LATER = "limit, payable when the second pool is listed"
    NEVER = "limit, never payable"
    GTD_PAID = "limit with a time, payable at once"
    GTD_LATER = "limit with a time, payable when the second pool is listed"
    GTD_NEVER = "limit with a time, never payable"
    IOC_PAID = "immediate, payable"
    FOK_NEVER = "immediate, not payable"
    SNIPE_POOL = "sniper of a pool that will be listed"
    SNIPE_PRICE = "sniper of the second pool's price"
    SNIPE_TIME = "sniper that waits for a time"
    SNIPE_NEVER = "sniper of a price that never comes"
    SNIPE_UNTIL = "sniper that never holds, until a time"


ENDS: dict[Kind, frozenset[str]] = {
    Kind.MARKET: frozenset({"confirmed"}),
    Kind.PAID: frozenset({"confirmed"}),
    Kind.LATER: frozenset({"confirmed"}),
    Kind.NEVER: frozenset({"open"}),
    Kind.GTD_PAID: frozenset({"confirmed", "expired"}),
    Kind.GTD_LATER: frozenset({"confirmed", "expired"}),
    Kind.GTD_NEVER: frozenset({"expired"}),
    # Its only attempt may be hit by a simulated failure of the market.
    Kind.IOC_PAID: frozenset({"confirmed", "expired"}),
    Kind.FOK_NEVER: frozenset({"expired"}),
    Kind.SNIPE_POOL: frozenset({"confirmed"}),
    Kind.SNIPE_PRICE: frozenset({"confirmed"}),
    Kind.SNIPE_TIME: frozenset({"confirmed"}),
    Kind.SNIPE_NEVER: frozenset({"open"}),
    Kind.SNIPE_UNTIL: frozenset({"expired"}),
}
"""The final statuses of orders once their conditions have occurred, without cancellation or amendment."""

IMMEDIATE = {Kind.IOC_PAID, Kind.FOK_NEVER}


@dataclass(eq=False)
class Tracked:
    """An order, and its allowed final statuses according to the responses to its client."""

    kind: Kind
    body: Json
    may: frozenset[str]
    id: str | None = None
    story: list[str] = field(default_factory=list)
    """The client's requests and their responses."""

    @property
    def name(self) -> str:
        """The client order id."""
        name: str = self.body["clientOrderId"]
        return name


def rfc3339(seconds_ahead: float) -> str:
    """Return the time this many seconds ahead, in the API's format."""
    at = datetime.now(UTC) + timedelta(seconds=seconds_ahead)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Book:
    """What the clients of one database know, across the runs of its service.

    ``wrong`` holds every response that violates the contract.
    """

    rng: random.Random
    sent: list[Tracked] = field(default_factory=list)
    orders: list[Tracked] = field(default_factory=list)
    """The orders known to be accepted."""
    unsent: list[Tracked] = field(default_factory=list)
    unlisted: list[Json] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    """Ids of orders that were reported to a client as cancelled."""
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """One for each run."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def new_token(self) -> str:
        """Return an unused symbol."""
        self.tokens.append(f"K{len(self.tokens) + 1}")
        return self.tokens[-1]

    def count(self, what: str) -> None:
        """Count an action."""
        with self._lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def mixed(self, token: str, kinds: Iterable[Kind]) -> list[Tracked]:
        """Return an order of each kind for a run's token."""
        return [self._order(kind, token) for kind in kinds]

    def _order(self, kind: Kind, token: str) -> Tracked:
        rng = self.rng
        body: Json = {
            "clientOrderId": f"r-{rng.getrandbits(80):020x}",
            "tokenIn": "SOL",
            "tokenOut": token,
            "amountIn": f"0.00{rng.randint(10, 99)}",
            # Other orders trade the same small pools at the same time.
            "slippageBps": 2_000,
        }
        soon = rng.uniform(0.3, 2.5)
        match kind:
            case Kind.MARKET:
                body |= {"orderType": "market", "tokenOut": "USDC"}
            case Kind.PAID:
                body |= {"orderType": "limit", "tokenOut": "USDC", "limitPrice": str(rng.randint(50, 90))}
            case Kind.LATER | Kind.GTD_LATER:
                body |= {"orderType": "limit", "limitPrice": f"{rng.randint(2_200, 2_900)}.5"}
            case Kind.NEVER | Kind.GTD_NEVER:
                body |= {"orderType": "limit", "limitPrice": f"{rng.randint(9_000, 99_000)}"}
            case Kind.GTD_PAID:
                body |= {"orderType": "limit", "limitPrice": "1000"}
            case Kind.IOC_PAID:
                body |= {"orderType": "limit", "limitPrice": "1000.25", "timeInForce": "IOC"}
            case Kind.FOK_NEVER:
                body |= {"orderType": "limit", "limitPrice": "9000", "timeInForce": "FOK"}
            case _:
                body |= {"orderType": "sniper", "sniperConditions": self._conditions(kind, soon)}
        if kind in {Kind.GTD_NEVER, Kind.GTD_PAID, Kind.GTD_LATER}:
            body["expiresAt"] = rfc3339(soon)
        return Tracked(kind, body, ENDS[kind])

    def _conditions(self, kind: Kind, soon: float) -> Json:
        match kind:
            case Kind.SNIPE_POOL:
                return {"poolCreated": {"venue": "any"}}
            case Kind.SNIPE_PRICE:
                return {"price": {"above": "2300"}, "minLiquidity": {"amount": "1000", "unit": "tokenOut"}}
            case Kind.SNIPE_TIME:
                return {"timeWindow": {"notBefore": rfc3339(soon)}}
            case Kind.SNIPE_NEVER:
                return {"price": {"above": "50000"}}
            case Kind.SNIPE_UNTIL:
                return {"price": {"above": "50000"}, "timeWindow": {"notAfter": rfc3339(soon)}}
        raise AssertionError(kind)

    def astray(self, statuses: Mapping[str, str]) -> list[str]:
        """Return a text for each order with a status that is not allowed."""
        return [
            f"{order.id} ({order.kind}) is {statuses[order.id]}, may be {sorted(order.may)}: {order.story}"
            for order in self.orders
            if order.id is not None and statuses[order.id] not in order.may
        ]

    # A client's actions. Each is one request, and records its response.

    def list_pool(self, client: Client, pool: Json) -> bool:
        """List a pool; return whether it exists."""
        answer = client.ask("POST", "/api/paper/pools", pool)
        if answer.status in {201, 409}:
            self.count("pools listed")
            return True
        if not answer.unknown:
            self._note("list", answer)
        with self._lock:
            self.unlisted.append(pool)
        return False

    def place(self, client: Client, order: Tracked) -> None:
        """Place an order; ``place_again`` looks up and repeats orders without a response."""
        with self._lock:
            if order not in self.sent:
                self.sent.append(order)
        answer = client.ask("POST", "/api/orders/execute", order.body)
        if answer.status in {200, 201}:
            self._placed(order, answer)
        elif answer.status == 422 and _times_are_over(order.body):
            return  # its expiry passed before the request arrived
        else:
            if not answer.unknown:
                self._note(f"place {order.kind}", answer)
            with self._lock:
                self.unsent.append(order)

    def place_again(self, client: Client, order: Tracked) -> None:
        """Place an order without a response again, unless it exists."""
        answer = client.ask("GET", f"/api/orders/by-client-id/{order.name}")
        order.story.append(f"looked up: {answer.status}")
        if answer.status == 200:
            self._placed(order, answer)
        elif answer.status != 404:
            with self._lock:
                self.unsent.append(order)
        else:
            if order.kind in {Kind.GTD_NEVER, Kind.GTD_PAID, Kind.GTD_LATER}:
                order.body["expiresAt"] = rfc3339(0.5)
            self.place(client, order)

    def _placed(self, order: Tracked, answer: RequestResult) -> None:
        order.id = answer.body.get("orderId") or answer.body["id"]
        order.story.append(f"placed: {answer.status}")
        with self._lock:
            self.orders.append(order)
        self.count("orders placed")

    def cancel(self, client: Client, order: Tracked) -> None:
        """Cancel an order."""
        answer = client.ask("DELETE", f"/api/orders/{order.id}")
        order.story.append(f"cancel: {answer.status}")
        self.count("cancellations")
        if answer.unknown:
            order.may |= {"cancelled"}
        elif answer.status == 200:
            with self._lock:
                self.cancelled.add(order.id or "")
            order.may = frozenset({"cancelled"})
        elif answer.status == 202 and answer.body["cancelRequested"] is True:
            order.may = (order.may | {"confirmed", "cancelled"}) - {"open"}
        elif answer.status == 409:
            # It has ended: the judge checks its status.
            order.may = frozenset({"confirmed", "expired", "failed"})
        else:
            self._note("cancel", answer)

    def cancel_token(self, client: Client, token: str) -> None:
        """Cancel all orders for a token."""
        with self._lock:
            there = [order for order in self.orders if order.body["tokenOut"] == token]
        answer = client.ask("POST", "/api/orders/cancel", {"tokenOut": token})
        self.count("cancellations by filter")
        with self._lock:
            # Orders in flight may have arrived before the cancellation.
            meant = [order for order in self.sent if order.body["tokenOut"] == token]
        for order in meant:
            order.story.append(f"cancel by filter: {answer.status}")
            order.may |= {"cancelled"}
        if answer.status == 200:
            for order in there:
                order.may -= {"open"}
        if answer.status != 200 and not answer.unknown:
            self._note("cancel by filter", answer)

    def amend(self, client: Client, order: Tracked) -> None:
        """Amend an order, to terms that can be met or that cannot."""
        met = self.rng.random() < 0.5
        change: Json
        reached = {"confirmed"} if met else ENDS[order.kind]
        match order.kind:
            case Kind.NEVER:
                change = {"limitPrice": "1000.125" if met else "8888.5"}
            case Kind.GTD_NEVER:
                change = {"expiresAt": None if met else rfc3339(0.7)}
                reached = {"open"} if met else {"expired"}
            case Kind.SNIPE_NEVER:
                change = {"sniperConditions": {"price": {"above": "1000" if met else "60000"}}}
            case _:
                change = {"limitPrice": f"{self.rng.randint(2_200, 2_900)}.25"}
                reached = ENDS[order.kind]
        answer = client.ask("PATCH", f"/api/orders/{order.id}", change)
        order.story.append(f"amend to {change}: {answer.status}")
        self.count("amendments")
        if answer.status == 200:
            cancelled = order.may & {"cancelled"}
            order.may = frozenset(reached) | cancelled
        elif answer.unknown:
            order.may |= reached
        elif answer.status != 409:
            self._note(f"amend {order.kind}", answer)

    def _note(self, what: str, answer: RequestResult) -> None:
        with self._lock:
            self.wrong.append(f"{what}: {answer.status} {answer.body}")


def first_pool(token: str) -> Json:
    """Return a token's first pool."""
    return _pool("raydium_cpmm", token, FIRST_PRICE)


def second_pool(token: str) -> Json:
    """Return the second pool, which pays more."""
    return _pool("meteora_damm_v2", token, SECOND_PRICE)


def third_pool(token: str) -> Json:
    """Return a third pool, for sniper orders that wait for any new pool."""
    return _pool("raydium_amm_v4", token, SECOND_PRICE)


def _pool(program: str, token: str, price: int) -> Json:
    sol = _SUPPLY / price
    return {
        "program": program,
        "tokenA": token,
        "tokenB": "SOL",
        "amountA": str(_SUPPLY),
        "amountB": f"{sol:.6f}",
    }


def _times_are_over(body: Json) -> bool:
    window = body.get("sniperConditions", {}).get("timeWindow", {})
    times = [body.get("expiresAt"), window.get("notAfter")]
    return any(at is not None and datetime.fromisoformat(at) <= datetime.now(UTC) for at in times)


Step = Callable[[Client], Any]


def run_steps(service: ServiceProcess, steps: list[Step]) -> None:
    """Let several clients execute steps concurrently, until all are done."""

    def work(left: Iterator[Step]) -> None:
        with closing(Client(service)) as client:
            for step in left:
                step(client)

    share_out(steps, work)


def pause(seconds: float) -> Step:
    """Return a step that waits."""
    return lambda _client: time.sleep(seconds)
