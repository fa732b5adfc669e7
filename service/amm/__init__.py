"""The mathematics of four AMM programs, exact to the base unit: outputs, inputs, fees, states after swaps.

Pure functions: from a pool's state, made of plain numbers or account bytes, to a quote with the state
after the swap. Integers only. A pool in a mode that is not reproduced exactly is rejected, never
approximated.

quote.py              the interface of all pools; the definition of price impact
curve.py              a pool's output as a function of its input, for routing and arbitrage
errors.py             why a swap is not quoted
integers.py           integer widths and rounding
fixed_point.py        powers
activation.py         when a Meteora pool opens
account.py            decodes and encodes account bytes

raydium_cpmm*.py      Raydium CPMM
raydium_amm_v4*.py    Raydium AMM v4
meteora_dlmm*.py      Meteora DLMM: the pool, its bins, their ladder, fees and prices
meteora_damm_v2*.py   Meteora DAMM v2: the pool, its curve and fees
*_account.py          their accounts; only these modules handle bytes

It imports nothing else of the service. The results were compared with the programs themselves, executed
in a local Solana VM: ``tests/golden`` has their results and names their sources.
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
