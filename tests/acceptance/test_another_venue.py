"""The service runs on any venue: it uses the interface alone. Only the paper market has routes of its own."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service import parts
from service.chains.factory import BuiltVenue, build_venue
from service.chains.venue import Execution, MarketData, Venue, Wallet
from tests.support.gem_market import ended, sniper
from tests.support.orders import LIFE, Client, execute, statuses

_INTERFACE = {
    name for part in (Venue, MarketData, Execution, Wallet) for name in vars(part) if not name.startswith("_")
}


class AnotherVenue:
    """The paper market with nothing but the interface of a venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def __getattr__(self, name: str) -> Any:
        """Return a member of the interface."""
        if name not in _INTERFACE:
            raise AttributeError(f"a venue has no {name}")
        return getattr(self._venue, name)


@pytest.fixture
def another_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have services built on another venue."""

    def build(*arguments: Any, **options: Any) -> BuiltVenue:
        another: Any = AnotherVenue(build_venue(*arguments, **options).venue)
        return BuiltVenue(another, None)

    monkeypatch.setattr(parts, "build_venue", build)


@pytest.mark.usefixtures("another_venue")
async def test_a_service_on_another_venue_executes_orders_and_has_no_routes_of_the_paper_market(
    start: Callable[..., Awaitable[Client]],
) -> None:
    client = await start()
    order = await execute(client)
    assert statuses(order) == LIFE
    fires_anyway = {"timeWindow": {"notBefore": "2020-01-01T00:00:00Z"}}
    waiting = await sniper(client, fires_anyway, tokenOut="SOL", tokenIn="USDC", amountIn="1")
    assert (await ended(client, waiting))["status"] == "confirmed"
    for method, path in (("POST", "/api/paper/pools"), ("DELETE", "/api/paper/pools/raydium:SOL-USDC:cpmm")):
        async with client.request(method, path, json={}) as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"
    for path in ("/openapi.json", "/asyncapi.json"):
        async with client.get(path) as answer:
            assert answer.status == 200
            assert "/api/paper" not in await answer.text()
    async with client.get("/api/pools?token=SOL") as answer:
        assert (await answer.json())["pools"]
