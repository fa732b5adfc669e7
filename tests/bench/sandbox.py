"""Swaps per second of the sandbox chain, in one process: ``python -m tests.bench.sandbox``.

Transactions are built and signed beforehand. Timed is landing them in blocks, as the server's loop does,
and for comparison sending them through the JSON-RPC interface with a preflight.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from solders.transaction import VersionedTransaction

from tests.support.local_chain import PROGRAM_NAMES, SOL, LocalChain, wire

_ROUNDS, _PER_BLOCK = 400, 20
_PREFLIGHT = {"encoding": "base64", "preflightCommitment": "processed"}


def transactions(local: LocalChain, names: Sequence[str], count: int) -> list[VersionedTransaction]:
    return [local.swap(*(local.leg(name, SOL // 100, 1) for name in names)) for _ in range(count)]


class Rate(NamedTuple):
    """Transactions per second, and the processor's time of one in microseconds."""

    per_s: float
    cpu_us: float


def measured(count: int, run: Callable[[], None]) -> Rate:
    began, cpu = time.perf_counter(), time.process_time()
    run()
    return Rate(count / (time.perf_counter() - began), (time.process_time() - cpu) / count * 1e6)


def land(local: LocalChain, sent: Sequence[VersionedTransaction]) -> None:
    for place, transaction in enumerate(sent, 1):
        local.chain.submit(transaction, bytes(transaction))
        if place % _PER_BLOCK == 0:
            local.chain.advance()


def send(local: LocalChain, sent: Sequence[VersionedTransaction]) -> None:
    for place, transaction in enumerate(sent, 1):
        local.call("sendTransaction", wire(transaction), _PREFLIGHT)
        if place % _PER_BLOCK == 0:
            local.chain.advance()


def rate_of(names: Sequence[str], run: Callable[[LocalChain, Sequence[VersionedTransaction]], None]) -> Rate:
    local = LocalChain()
    sent = transactions(local, names, _ROUNDS)
    rate = measured(len(sent), lambda: run(local, sent))
    if any(local.status(str(each.signatures[0]))["err"] is not None for each in sent):
        raise RuntimeError("a swap failed")
    return rate


def main() -> None:
    """Print the figures."""
    for name in PROGRAM_NAMES:
        rate = rate_of([name], land)
        print(f"{name:16} {rate.per_s:6.0f} swaps/s, {rate.cpu_us:5.0f} us CPU each")
    rate = rate_of(PROGRAM_NAMES, land)
    print(f"four legs        {4 * rate.per_s:6.0f} swaps/s, {rate.cpu_us / 4:5.0f} us CPU each")
    rate = rate_of(PROGRAM_NAMES[:1], send)
    print(f"with a preflight {rate.per_s:6.0f} swaps/s, {rate.cpu_us:5.0f} us CPU each, by JSON-RPC")


if __name__ == "__main__":
    main()
