"""Checks the settings that bound what orders may sell, when the venue's tokens are known."""

from service.domain.mode import TradingMode
from service.domain.tokens import TOKENS
from service.settings import InvalidSettingError, Settings

_ORDER, _DAY = "MAX_ORDER_AMOUNTS", "MAX_DAY_AMOUNTS"
_NEEDED = {
    _ORDER: "the largest amounts of one order",
    _DAY: "the largest amounts that all orders together sell in 24 hours",
}


def check_order_limits(settings: Settings, mode: TradingMode) -> None:
    """Check that limits are about tokens that can be traded, and that real money has both.

    Raises:
        InvalidSettingError: They are not, or it has not; the message names the setting.
    """
    amounts = {_ORDER: settings.max_order_amounts, _DAY: settings.max_day_amounts}
    for name, largest in amounts.items():
        for token in largest:
            if token not in TOKENS:
                raise _invalid(name, f"there is no token {token}: SOLANA_TOKENS does not list it")
    if mode is not TradingMode.LIVE:
        return
    for name, largest in amounts.items():
        if not largest:
            reason = f"real money needs {_NEEDED[name]}, by token; no other token can be sold"
            raise _invalid(name, f"not set: {reason}")
    if (differing := amounts[_ORDER].keys() ^ amounts[_DAY].keys()) != set():
        tokens = ", ".join(sorted(differing))
        raise _invalid(_DAY, f"with real money it must name the same tokens as {_ORDER}, unlike for {tokens}")


def _invalid(name: str, reason: str) -> InvalidSettingError:
    return InvalidSettingError(f'Environment variable "{name}" invalid: {reason}')
