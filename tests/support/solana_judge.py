"""Checks orders on Solana against the chain's own record: its blocks, and what the wallet has.

It knows nothing of the venue's code. What a transaction did follows from the wallet's balances around it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from service.domain.tokens import TOKENS
from tests.support.judge import Verdict, is_legal
from tests.support.servers import TestServers
from tests.support.solana_sandbox import SandboxProcess, WalletTransaction

_ENDS = {"confirmed", "failed", "cancelled", "expired"}
_SOL = TOKENS["SOL"].mint


class _Order(NamedTuple):
    """An order as it is stored, with the ids and outcomes of its transactions."""

    id: str
    status: str
    version: int
    history: list[dict[str, Any]]
    token_in: str
    token_out: str
    amount_in: int | None
    amount_out: int | None
    tx_hash: str | None
    network_cost: int | None
    residue: list[dict[str, Any]] | None
    sent: list[tuple[str, bool, int | None, int | None, str | None]] | None


_ORDERS = """
    SELECT
        o.id::text, o.status, o.version, o.status_history, o.token_in, o.token_out,
        o.amount_in::bigint, o.amount_out::bigint, o.tx_hash, o.network_cost::bigint, o.residue,
        (
            SELECT jsonb_agg(
                jsonb_build_array(t.id, t.settled_at IS NOT NULL, t.slot, t.network_fee + t.rent, t.error)
                ORDER BY t.sequence
            )
            FROM transactions AS t
            WHERE t.order_id = o.id
        )
    FROM orders AS o
"""


def judge_on_chain(
    servers: TestServers, chain: SandboxProcess, before: Mapping[str, int], promised: Iterable[str] = ()
) -> Verdict:
    """Compare every order with the chain, on which nothing but these orders was traded.

    Args:
        servers: Where the orders are stored.
        chain: The chain. Its faults end, and slots pass until what was sent has landed or never will.
        before: What the wallet had before the orders.
        promised: Orders that must exist.
    """
    chain.disarm()
    chain.let_end()
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(_ORDERS)
        orders = [_Order(*row) for row in cursor.fetchall()]
    verdict = Verdict(orders=len(orders))
    landed = {each.signature: each for each in chain.transactions()}
    known = {id_ for order in orders for id_, *_ in order.sent or ()}
    verdict.untrue += [f"{id_} is in the chain, and was not stored" for id_ in landed.keys() - known]
    for order in orders:
        _judge(verdict, order, landed)
    lost = set(promised) - {order.id for order in orders}
    verdict.untrue += [f"{order_id} was promised and is lost" for order_id in lost]
    _compare_balances(verdict, orders, before, chain.balances())
    return verdict


def _judge(verdict: Verdict, order: _Order, landed: Mapping[str, WalletTransaction]) -> None:
    verdict.statuses[order.status] += 1
    if order.status not in _ENDS:
        verdict.unfinished.append(f"{order.id} is {order.status}")
    if not is_legal(order.status, order.version, order.history):
        verdict.illegal.append(f"{order.id}: {[entry['status'] for entry in order.history]}")
    found = [landed[id_] for id_, *_ in order.sent or () if id_ in landed]
    executed = [each for each in found if each.ok]
    if len(executed) > 1:
        verdict.twice.append(f"{order.id} was executed by {[each.signature for each in executed]}")
    if order.status not in _ENDS:
        return
    if [order.tx_hash] * (order.status == "confirmed") != [each.signature for each in executed]:
        verdict.untrue.append(f"{order.id} is {order.status} by {order.tx_hash}, the chain says {executed}")
    elif executed and executed[0].changes != _booked(order):
        verdict.untrue.append(f"{order.id} has booked {_booked(order)}, the chain says {executed[0]}")
    # What is stored of its transactions is what is in the chain, of failed ones too.
    for id_, settled, slot, cost, error in order.sent or ():
        each = landed.get(id_)
        told = (None, None, False) if each is None else (each.slot, each.fee, each.ok)
        if not settled or (slot, cost, error is None) != told:
            stored = f"settled: {settled}, slot {slot}, cost {cost}, error {error}"
            verdict.untrue.append(f"{order.id}: {id_} is stored as {stored}, the chain says {each}")
    if (order.network_cost or 0) != sum(each.fee for each in found):
        verdict.untrue.append(f"{order.id} has cost {order.network_cost}, the chain says {found}")


def _booked(order: _Order) -> dict[str, int]:
    """Return what an order says that its fill changed, by mint."""
    changes: Counter[str] = Counter()
    if order.amount_in is not None and order.amount_out is not None:
        changes[TOKENS[order.token_in].mint] -= order.amount_in
        changes[TOKENS[order.token_out].mint] += order.amount_out
    for each in order.residue or ():
        changes[TOKENS[each["token"]].mint] += int(each["amount"])
    return {mint: change for mint, change in changes.items() if change}


def _compare_balances(
    verdict: Verdict, orders: Iterable[_Order], before: Mapping[str, int], now: Mapping[str, int]
) -> None:
    expected: defaultdict[str, int] = defaultdict(int, before)
    for order in orders:
        for mint, change in _booked(order).items():
            expected[mint] += change
        expected[_SOL] -= order.network_cost or 0
    for mint in sorted({*expected, *now}):
        if expected[mint] != now.get(mint, 0):
            verdict.untrue.append(f"the wallet has {now.get(mint, 0)} of {mint}, the books {expected[mint]}")
