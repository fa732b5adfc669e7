"""An instance without Redis fetches unknown tokens that another instance has just listed."""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.gem_market import GEM_POOL, rows
from tests.support.judge import audit, wait_until
from tests.support.orders import Json
from tests.support.paper import NO_REDIS
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.servers import TestServers

Spawn = Callable[..., ServiceProcess]


def ask(service: ServiceProcess, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
    """Send a request, and return the status and the body."""
    request = urllib.request.Request(  # noqa: S310 - the test's own service
        service.url + path,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            content = answer.read()
            return answer.status, json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


class TwoInstances:
    """Two instances on one PostgreSQL, one of them without Redis; tokens are listed at the other."""

    def __init__(self, spawn: Spawn) -> None:
        settings = {**NO_DELAYS, "LOG_LEVEL": "WARNING"}
        self.leader = spawn(**settings)
        self.deaf = spawn(**settings, REDIS_URL=NO_REDIS)
        self._listed = 0

    def list_token(self, **changes: Any) -> str:
        """List a token that is unknown to the other instance, and return its symbol."""
        self._listed += 1
        symbol = f"GEM{self._listed}"
        status, body = ask(self.leader, "POST", "/api/paper/pools", {**GEM_POOL, "tokenA": symbol, **changes})
        assert status == 201, body
        return symbol


@pytest.fixture
def pair(spawn: Spawn) -> TwoInstances:
    return TwoInstances(spawn)


def of(token: str, **changes: Any) -> Json:
    return {"tokenIn": "USDC", "tokenOut": token, "amountIn": "1", "orderType": "market", **changes}


ROUNDS = 3
"""The deaf instance looks by itself once a second; of several listings in a row it is late for most."""


def test_a_request_with_a_token_unknown_to_the_instance_is_accepted(pair: TwoInstances) -> None:
    deaf = pair.deaf
    for _ in range(ROUNDS):
        token = pair.list_token()
        status, order = ask(pair.leader, "POST", "/api/orders/execute", of(token))
        assert status == 201, order
        # An order with the token is shown, singly and in lists.
        assert ask(deaf, "GET", f"/api/orders/{order['id']}")[0] == 200
        status, page = ask(deaf, "GET", "/api/orders")
        assert (status, page["orders"][0]["id"]) == (200, order["id"])

        assert ask(deaf, "GET", f"/api/quotes?tokenIn=USDC&tokenOut={pair.list_token()}&amountIn=1")[0] == 200
        symbol = pair.list_token()
        _status, body = ask(deaf, "GET", "/api/tokens")
        assert symbol in {each["symbol"] for each in body["tokens"]}
        _status, body = ask(deaf, "GET", f"/api/pools?token={pair.list_token()}")
        assert len(body["pools"]) == 1
        for changes in ({}, {"orderType": "limit", "limitPrice": "1000000"}):
            status, order = ask(deaf, "POST", "/api/orders/execute", of(pair.list_token(), **changes))
            assert status == 201, order
        # A look-alike symbol, and a second pool with other decimals.
        token = pair.list_token(decimals=9)
        assert ask(deaf, "POST", "/api/paper/pools", {**GEM_POOL, "tokenA": token.lower()})[0] == 422
        token = pair.list_token(decimals=9)
        status, pool = ask(
            deaf, "POST", "/api/paper/pools", {**GEM_POOL, "tokenA": token, "program": "raydium_amm_v4"}
        )
        assert (status, pool["amountA"]) == (201, "1000000")
    # This token does not exist.
    assert ask(deaf, "POST", "/api/orders/execute", of("NOBODYS"))[0] == 422


def test_a_command_to_an_isolated_instance_is_executed_by_the_leader(pair: TwoInstances) -> None:
    for number in range(ROUNDS):
        body = {**GEM_POOL, "tokenA": f"FAR{number}"}
        status, pool = ask(pair.deaf, "POST", "/api/paper/pools", body)
        assert status == 201, pool
        # It can be quoted at once where it was listed.
        query = f"tokenIn=USDC&tokenOut=FAR{number}&amountIn=1"
        assert ask(pair.deaf, "GET", f"/api/quotes?{query}")[0] == 200
        assert ask(pair.leader, "GET", f"/api/quotes?{query}")[0] == 200
        assert ask(pair.deaf, "POST", "/api/paper/pools", body)[0] == 409
        assert ask(pair.deaf, "DELETE", f"/api/paper/pools/{pool['id']}")[0] == 204
        for service in (pair.deaf, pair.leader):
            assert ask(service, "GET", f"/api/quotes?{query}")[0] == 422
        assert ask(pair.deaf, "DELETE", f"/api/paper/pools/{pool['id']}")[0] == 404


@pytest.mark.parametrize("place", ["before settle", "after settle"])
def test_a_listing_survives_the_death_of_the_leader_during_it(
    spawn: Spawn, servers: TestServers, place: str
) -> None:
    # In such a long slot no price moves: the first commit is the listing.
    settings = {**NO_DELAYS, "LOG_LEVEL": "WARNING", "SLOT_MS": "60000"}
    leader = spawn(**settings, CRASH_AT=place)
    other = spawn(**settings)
    # The lease expires while the request waits.
    status, pool = ask(other, "POST", "/api/paper/pools", GEM_POOL)
    assert status == 201, pool
    assert leader.process.wait(10) == -signal.SIGKILL
    assert rows(servers, "SELECT answer FROM paper_commands") == [("listed",)]
    assert rows(servers, "SELECT id FROM paper_pools WHERE origin = 'listed'") == [(pool["id"],)]
    status, order = ask(other, "POST", "/api/orders/execute", of("GEM"))
    assert status == 201, order
    wait_until(lambda: ask(other, "GET", f"/api/orders/{order['id']}")[1]["status"] == "confirmed")
    audit(servers)
