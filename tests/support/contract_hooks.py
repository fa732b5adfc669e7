"""Lets schemathesis send requests that are accepted: the types in the document alone seldom make one."""

import itertools
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.generation.meta import TestPhase

from service.api.idempotency import HEADER
from service.domain.idempotency import parse_key

_TOKENS = ("SOL", "USDC", "USDT", "JUP", "RAY", "BONK")
_FOREIGN = {
    "market": ("limitPrice", "timeInForce", "sniperConditions", "expiresAt"),
    "limit": ("sniperConditions", "amountOut", "timeInForce", "expiresAt"),
    "sniper": ("limitPrice", "timeInForce", "amountOut", "expiresAt"),
}
_OWN: dict[str, tuple[str, object]] = {
    "limit": ("limitPrice", "1000000"),
    "sniper": ("sniperConditions", {"price": {"above": "1000000"}}),
}

_numbers = itertools.count(1)

Json = dict[str, Any]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Json) -> None:
    """Change a request to one that is accepted, as far as it is meant to be valid."""
    key = (case.headers or {}).get(HEADER)
    # Few keys are generated, and only the first request under a key is executed. The case itself does not
    # change, because schemathesis would judge it differently.
    if isinstance(key, str) and parse_key(key) is not None and next(_numbers) % 8:
        kwargs["auth"] = _with_new_key
    meta = case.meta
    # The coverage phase tries each value by itself, around the examples.
    if meta is None or meta.phase.name is TestPhase.COVERAGE or not meta.generation.mode.is_positive:
        return
    change = _CHANGES.get(case.operation.definition.raw.get("operationId"), _with_tokens)
    if isinstance(case.body, dict):
        case.body = change(case.body)
    elif case.query:
        case.query = change(dict(case.query))


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Return whether a failure counts: a dry run answers 200, and says in its body what refuses the order."""
    if not isinstance(failure, AcceptedNegativeData) or response.status_code != HTTPStatus.OK:
        return True
    body = response.json()
    return not (body.get("dryRun") is True and body["accepted"] is False and body["refusals"])


def _with_new_key(request: Any) -> Any:
    request.headers[HEADER] = f"contract-{uuid4()}"
    return request


def _order(members: Json) -> Json:
    """Return an order with the terms of its type, and with one amount; about one of four stays as it is."""
    if next(_numbers) % 4 == 0:
        return members
    kind = members.get("orderType") or ""
    changed = {
        name: value for name, value in _with_tokens(members).items() if name not in _FOREIGN.get(kind, ())
    }
    if changed.get("clientOrderId") is not None:
        changed["clientOrderId"] = f"contract-{uuid4()}"
    name, value = _OWN.get(kind, ("", None))
    if name and changed.get(name) is None:
        changed[name] = value
    return _with_one_amount(changed)


def _batch(members: Json) -> Json:
    orders = [_order(each) if isinstance(each, dict) else each for each in members.get("orders") or ()]
    return {**members, "orders": orders}


def _with_one_amount(members: Json) -> Json:
    changed = _with_tokens(members)
    if changed.get("amountIn") is not None:
        changed.pop("amountOut", None)
    name = "amountIn" if changed.get("amountOut") is None else "amountOut"
    amount = changed.get(name)
    if not isinstance(amount, str) or not amount.strip("0."):
        changed[name] = "1.5"
    return changed


def _with_tokens(members: Json) -> Json:
    """Return a request that names two known tokens, most of the time."""
    changed = dict(members)
    first = next(_numbers)
    for number, name in enumerate(("tokenIn", "tokenOut", "tokenA", "token")):
        if isinstance(changed.get(name), str) and first % 8:
            changed[name] = _TOKENS[(first + number) % len(_TOKENS)]
    return changed


def _cancellation(members: Json) -> Json:
    if members.get("all"):
        return {"all": True}
    return _with_tokens({name: value for name, value in members.items() if name != "account"})


def _endpoint(members: Json) -> Json:
    """Return a webhook endpoint at a host that never exists."""
    return {**members, "url": f"https://hooks.invalid/{next(_numbers)}"} if "url" in members else members


_CHANGES: dict[str | None, Callable[[Json], Json]] = {
    "executeOrder": _order,
    "executeOrders": _batch,
    "getQuote": _with_one_amount,
    "cancelOrders": _cancellation,
    "createWebhook": _endpoint,
    "updateWebhook": _endpoint,
}


@schemathesis.check
def rejection_names_its_cause(ctx: Any, response: Any, case: Any) -> None:
    """Check that a client learns what is wrong with its request."""
    if response.status_code == 422:
        problem = response.json()
        told = problem.get("errors") or problem.get("reason")
        assert told or problem["detail"] != "The request is not valid.", problem
