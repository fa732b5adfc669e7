"""What the steps of trading do where no local chain leads: a wallet without SOL, and missing pools."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.chains.venue import PoolRef, PoolView
from service.domain.quote import Dex
from service.smoke.report import StepFailedError, StepSkippedError
from service.smoke.trading import Trader, lines_of
from service.solana_settings import Cluster
from tests.support.clock import ManualClock

WALLET = "wallet1111"


def pool(program: str, token: str, sol: int) -> PoolView:
    ref = PoolRef(f"{program}-{token}", Dex.RAYDIUM, token, "SOL")
    return PoolView(ref, program, 1, sol, None, 0.0)


class FakeCluster:
    """Endpoints that may give airdrops, the wallet's SOL, and the instance with its pools."""

    def __init__(self, *pools: PoolView, cluster: Cluster = Cluster.DEVNET, gives: bool = False) -> None:
        self.free = Decimal("0.001")
        self.gives = gives
        self.asked: list[Any] = []
        self.options = SimpleNamespace(cluster=cluster, amount="0.01")
        self.endpoints = SimpleNamespace(readers=["one.example", "two.example"])
        self.clock = ManualClock()
        venue = SimpleNamespace(address=WALLET, all_views=lambda: (1, pools))
        service = SimpleNamespace(market=SimpleNamespace(venue=venue))
        self.trader = Trader(cast("Any", self), cast("Any", service), cast("Any", self))

    async def ask(self, endpoint: str, *call: object) -> None:
        self.asked.append((endpoint, *call))
        if not self.gives or endpoint == "one.example":
            raise StepFailedError(f"{endpoint}: requestAirdrop: too many requests")
        self.free += 1

    async def get(self, _path: str) -> dict[str, Any]:
        return {"balances": [{"token": "SOL", "free": str(self.free)}, {"token": "USDC", "free": "0"}]}

    async def balances(self) -> dict[str, Decimal]:
        return {"SOL": self.free, "USDC": Decimal()}


async def test_a_wallet_without_sol_is_given_some_on_devnet_by_the_first_endpoint_that_does() -> None:
    devnet = FakeCluster(gives=True)
    lines = await devnet.trader.fund()
    assert lines == [f"the wallet is {WALLET}", "devnet has given it 1 SOL", "1.001 SOL"]
    assert devnet.asked == [
        ("one.example", "requestAirdrop", WALLET, 10**9),
        ("two.example", "requestAirdrop", WALLET, 10**9),
    ]
    assert await devnet.trader.fund() == [f"the wallet is {WALLET}", "1.001 SOL"]


async def test_where_an_airdrop_is_refused_it_says_where_to_get_sol() -> None:
    with pytest.raises(StepFailedError) as raised:
        await FakeCluster().trader.fund()
    told = str(raised.value)
    assert "one.example: requestAirdrop: too many requests; two.example" in told
    assert f"{WALLET} has less than 0.01 SOL" in told
    assert "https://faucet.solana.com" in told


async def test_elsewhere_nothing_is_asked_for() -> None:
    sandbox = FakeCluster(cluster=Cluster.SANDBOX, gives=True)
    with pytest.raises(StepFailedError, match="SOL beside its reserve"):
        await sandbox.trader.fund()
    assert sandbox.asked == []


async def test_what_no_pool_can_show_is_skipped() -> None:
    few = FakeCluster(pool("raydium_cpmm", "USDC", 5), pool("meteora_dlmm", "JUP", 7))
    with pytest.raises(StepSkippedError, match="no pool of it"):
        await few.trader.swap_each_way("raydium_amm_v4")
    with pytest.raises(StepSkippedError, match="no two pools"):
        await few.trader.split()


def test_it_splits_over_the_largest_two_pools_of_two_programs() -> None:
    cluster = FakeCluster(
        pool("raydium_cpmm", "USDC", 900),
        pool("raydium_cpmm", "JUP", 800),
        pool("meteora_dlmm", "JUP", 30),
        pool("meteora_damm_v2", "JUP", 40),
        pool("meteora_dlmm", "RAY", 500),
    )
    assert [each.pool.id for each in cluster.trader._two_pools()] == [
        "raydium_cpmm-JUP",
        "meteora_damm_v2-JUP",
    ]
    same = FakeCluster(pool("raydium_cpmm", "JUP", 8), pool("raydium_cpmm", "JUP", 7))
    assert len(same.trader._two_pools()) == 2


def test_a_simulated_order_says_what_would_have_happened() -> None:
    order = {"id": "7", "tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "0.01", "amountOut": None}
    order |= {"failureReason": "simulated", "txHash": None, "networkCost": None}
    would = {"amountIn": "0.01", "amountOut": "1.5", "networkCost": "0.000005"}
    for entry, bought in (({"simulated": would}, "1.5 USDC"), ({}, "an unknown amount of USDC")):
        told = f"0.01 SOL would have bought {bought}; order 7 was only simulated"
        assert lines_of({**order, "statusHistory": [{}, entry]}) == [told]
