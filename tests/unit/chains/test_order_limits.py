"""The limits that real money needs, and the tokens that limits may name."""

import pytest

from service.chains.order_limits import check_order_limits
from service.domain.mode import TradingMode
from service.settings import InvalidSettingError, Settings
from tests.support.settings import load_settings

ON = {
    "VENUE": "solana",
    "SOLANA_CLUSTER": "mainnet-beta",
    "SOLANA_RPC_URLS": "https://one.example/",
    "SOLANA_SIGNER": "env:KEY",
}
BOTH = {"MAX_ORDER_AMOUNTS": "SOL=1,USDC=150", "MAX_DAY_AMOUNTS": "SOL=5,USDC=700"}


def loaded(**variables: str) -> Settings:
    return load_settings(**ON, **variables)


def test_real_money_with_both_limits() -> None:
    check_order_limits(loaded(**BOTH), TradingMode.LIVE)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MAX_ORDER_AMOUNTS", "", "real money needs the largest amounts of one order"),
        ("MAX_DAY_AMOUNTS", "", "real money needs the largest amounts that all orders together sell"),
        ("MAX_DAY_AMOUNTS", "SOL=5", "the same tokens as MAX_ORDER_AMOUNTS, unlike for USDC"),
        ("MAX_DAY_AMOUNTS", "SOL=5,USDC=1,JUP=1", "unlike for JUP"),
        ("MAX_ORDER_AMOUNTS", "SOL=1,USDC=150,GEM=1", "there is no token GEM"),
    ],
)
def test_real_money_does_not_start_without_one(name: str, value: str, told: str) -> None:
    settings = loaded(**{**BOTH, name: value})
    with pytest.raises(InvalidSettingError, match=f'"{name}" invalid: .*{told}') as error:
        check_order_limits(settings, TradingMode.LIVE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", [TradingMode.PAPER, TradingMode.SIMULATE])
def test_what_is_not_real_money_needs_none(mode: TradingMode) -> None:
    check_order_limits(loaded(), mode)
    check_order_limits(loaded(MAX_DAY_AMOUNTS="JUP=1"), mode)
    with pytest.raises(InvalidSettingError, match='"MAX_DAY_AMOUNTS" invalid: there is no token GEM'):
        check_order_limits(loaded(MAX_DAY_AMOUNTS="GEM=1"), mode)
