"""The stored routing of an attempt, with the members and their order that clients see."""

import orjson

from service.domain.failures import FailureCode
from service.domain.quote import Choice, Dex, Leg, NoQuote, Path, PoolQuote, Route, SwapMode
from service.domain.routing_record import in_words, record_choice, record_refusal

ONE = Leg(Dex.RAYDIUM, "raydium:1", "SOL", "USDC", 10**9, 150_000_000, 2_500_000, 0, 12)
TWO = Leg(Dex.METEORA, "meteora:2", "SOL", "USDT", 5 * 10**8, 76_000_000, 0, 200_000, 0)
THREE = Leg(Dex.METEORA, "meteora:3", "USDT", "USDC", 76_000_000, 75_500_000, 1, 1, 1_000_000)
CHOICE = Choice(
    quotes=(
        PoolQuote(Dex.RAYDIUM, "raydium:1", 15 * 10**8, 224_000_000, 3_750_000, 0, 18),
        NoQuote(Dex.METEORA, "meteora:1", FailureCode.QUOTES_UNAVAILABLE),
    ),
    route=Route(SwapMode.EXACT_IN, "SOL", "USDC", (Path((ONE,)), Path((TWO, THREE))), 2_000),
    runner_up=Route(SwapMode.EXACT_IN, "SOL", "USDC", (Path((ONE,)),), 12),
)
QUOTE = (
    b'{"venue":"raydium","poolId":"raydium:1","amountIn":"1.5","amountOut":"224",'
    b'"fees":[{"token":"SOL","amount":"0.00375"}],"priceImpact":"0.000018","chosen":%b}'
)
NO_QUOTE = b'{"venue":"meteora","poolId":"meteora:1","reason":"quotes_unavailable"}'


def test_a_choice_is_stored_with_every_quote_and_the_runner_up() -> None:
    record = record_choice(CHOICE)
    assert orjson.dumps(record.quotes) == b"[" + QUOTE % b"true" + b"," + NO_QUOTE + b"]"
    assert orjson.dumps(record.route) == (
        b'{"venue":"multiple","amountIn":"1.5","amountOut":"225.5","priceImpact":"0.002","paths":['
        b'{"amountIn":"1","amountOut":"150","legs":[{"venue":"raydium","poolId":"raydium:1","tokenIn":"SOL",'
        b'"tokenOut":"USDC","amountIn":"1","amountOut":"150","fees":[{"token":"SOL","amount":"0.0025"}],'
        b'"priceImpact":"0.000012"}]},'
        b'{"amountIn":"0.5","amountOut":"75.5","legs":[{"venue":"meteora","poolId":"meteora:2",'
        b'"tokenIn":"SOL","tokenOut":"USDT","amountIn":"0.5","amountOut":"76",'
        b'"fees":[{"token":"USDT","amount":"0.2"}],"priceImpact":"0"},'
        b'{"venue":"meteora","poolId":"meteora:3","tokenIn":"USDT","tokenOut":"USDC","amountIn":"76",'
        b'"amountOut":"75.5","fees":[{"token":"USDT","amount":"0.000001"},{"token":"USDC",'
        b'"amount":"0.000001"}],"priceImpact":"1"}]}],'
        b'"beat":{"venue":"raydium","poolIds":["raydium:1"],"amountIn":"1","amountOut":"150"}}'
    )


def test_quotes_without_a_usable_one_have_no_route() -> None:
    record = record_refusal(CHOICE.quotes, "SOL", "USDC")
    assert orjson.dumps(record.quotes) == b"[" + QUOTE % b"false" + b"," + NO_QUOTE + b"]"
    assert record.route is None


def test_the_log_has_quotes_and_choice_in_one_line() -> None:
    assert in_words(CHOICE) == (
        "raydium:1 1.5 SOL for 224 USDC, meteora:1 does not quote (quotes_unavailable);"
        " chosen: raydium:1 + meteora:2 -> meteora:3"
    )
