"""What the orders of API keys use of the keys' budgets.

The statement that inserts an order decides whether it keeps them, and counts what it uses; the one that ends
it unfilled gives that back.
"""

from typing import NamedTuple

from service.clock import Clock
from service.domain.budgets import Rule, Usage
from service.domain.order import BudgetUse, NewOrder
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.purge import Purge

_DELETE_EVERY_S = 600.0
_UNDECIDED = "undecided"


class _UsageRow(NamedTuple):
    open_orders: int
    token: str | None
    amount: int | None
    usd: int | None


_GET_USAGE = query("get_key_usage", _UsageRow)
_DELETE_OLD = query("delete_old_key_usage")


class OverBudgetError(Exception):
    """Too little is left of a budget of an order's API key; ``used`` is what the key's other orders use."""

    def __init__(self, rule: Rule, used: int) -> None:
        super().__init__(rule)
        self.rule = rule
        self.used = used


class JudgedRow(NamedTuple):
    """An order that was inserted; or the budget that it does not keep, and how much of that is used."""

    id: str
    created_at: str | None
    rule: str | None
    used: int | None

    def refusal(self) -> OverBudgetError | None:
        """Return why the order is not inserted; None: it was, or it is not decided yet whether it is."""
        if self.rule is None or self.rule == _UNDECIDED:
            return None
        return OverBudgetError(Rule(self.rule), self.used or 0)


class Budgets:
    """Reads what is used, and deletes what no longer counts.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: Times the deletion.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._purge = Purge(database, clock, _DELETE_OLD, every_s=_DELETE_EVERY_S)

    def start(self) -> None:
        """Begin to delete old usage."""
        self._purge.start()

    async def stop(self) -> None:
        """Stop deleting."""
        await self._purge.stop()

    async def usage(self, key_id: str) -> Usage:
        """Return what the orders of a key use."""
        rows = await self._database.read(_GET_USAGE, {"key_id": key_id})
        return Usage(
            {row.token: row.amount or 0 for row in rows if row.token is not None},
            sum(row.usd or 0 for row in rows),
            rows[0].open_orders,
        )

    async def delete_old(self) -> int:
        """Delete usage that no longer counts; return how many rows."""
        return await self._purge.run()


def used_columns(budget: BudgetUse) -> dict[str, object]:
    """Return the columns of a new order that say what it uses, to be counted and given back."""
    if budget.amount is None and budget.usd is None:
        return {}
    return {"used_token": budget.token, "used_amount": budget.amount, "used_usd": _as_text(budget.usd)}


def budget_row(place: int, order: NewOrder) -> dict[str, object]:
    """Return a row of ``budget_verdicts``: an order that has a budget, at its place in the group."""
    budget, key = order.budget, order.idempotency
    if budget is None:
        raise ValueError(f"order {order.id} has no budget")
    return {
        "place": place,
        "id": order.id,
        "account": order.account,
        "key_id": order.key_id,
        "client_order_id": order.client_order_id,
        "idempotency_key": None if key is None else key.key,
        "token": budget.token,
        "amount": budget.amount,
        "most_amount": _as_text(budget.most_amount),
        "usd": _as_text(budget.usd),
        "most_usd": budget.most_usd,
        "most_open": budget.most_open,
    }


def _as_text(number: int | None) -> str | None:
    # It may exceed the 64 bits that JSON's encoder takes.
    return None if number is None else str(number)
