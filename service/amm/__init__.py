"""The mathematics of four AMM programs, to the unit: what a swap pays, costs and leaves behind.

Pure: a state goes in, made of plain numbers or of account bytes; a quote comes out, with the state
after the swap. Integers only. A pool in a mode that is not reproduced exactly is refused, never
approximated.

quote.py              the shape all pools share; the one definition of price impact
curve.py              a pool's output as a function of its input, for routing and arbitrage
errors.py             why a swap is not quoted
integers.py           widths and roundings
fixed_point.py        powers
activation.py         when a Meteora pool opens
account.py            account bytes to fields and back

raydium_cpmm*.py      Raydium CPMM
raydium_amm_v4*.py    Raydium AMM v4
meteora_dlmm*.py      Meteora DLMM: the pool, its bins, fees and prices
meteora_damm_v2*.py   Meteora DAMM v2: the pool, its curve and fees
*_account.py          their accounts; nothing else here knows bytes

It imports nothing of the service. Every result was compared with the programs themselves, executed
in a local Solana VM: ``tests/golden`` holds what they answered, and which sources belong to them.
"""

from service.amm.errors import AmmError, StateIncompleteError, SwapRefusedError
from service.amm.meteora_damm_v2 import DammV2Pool
from service.amm.meteora_dlmm import DlmmPool
from service.amm.quote import ChainTime, Direction, FeeSide, PoolState, Ratio, SwapQuote
from service.amm.raydium_amm_v4 import AmmV4Pool
from service.amm.raydium_cpmm import CpmmPool

__all__ = [
    "AmmError",
    "AmmV4Pool",
    "ChainTime",
    "CpmmPool",
    "DammV2Pool",
    "Direction",
    "DlmmPool",
    "FeeSide",
    "PoolState",
    "Ratio",
    "StateIncompleteError",
    "SwapQuote",
    "SwapRefusedError",
]
