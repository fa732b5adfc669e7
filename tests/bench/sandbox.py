"""Swaps per second of the sandbox chain, in one process: ``python -m tests.bench.sandbox``.

Transactions are built and signed beforehand. Timed is landing them in blocks, as the server's loop does,
and for comparison sending them through the JSON-RPC interface with a preflight.
"""

import time
from collections.abc import Sequence

from solders.transaction import VersionedTransaction

from tests.support.local_chain import PROGRAM_NAMES, SOL, LocalChain, wire

_ROUNDS, _PER_BLOCK = 400, 20
_PREFLIGHT = {"encoding": "base64", "preflightCommitment": "processed"}


def transactions(local: LocalChain, names: Sequence[str], count: int) -> list[VersionedTransaction]:
    return [local.swap(*(local.leg(name, SOL // 100, 1) for name in names)) for _ in range(count)]


def landed_per_s(local: LocalChain, sent: Sequence[VersionedTransaction]) -> float:
    began = time.perf_counter()
    for place, transaction in enumerate(sent, 1):
        local.chain.submit(transaction, bytes(transaction))
        if place % _PER_BLOCK == 0:
            local.chain.advance()
    seconds = time.perf_counter() - began
    for transaction in sent:
        if local.status(str(transaction.signatures[0]))["err"] is not None:
            raise RuntimeError("a swap failed")
    return len(sent) / seconds


def sent_per_s(local: LocalChain, sent: Sequence[VersionedTransaction]) -> float:
    began = time.perf_counter()
    for place, transaction in enumerate(sent, 1):
        local.call("sendTransaction", wire(transaction), _PREFLIGHT)
        if place % _PER_BLOCK == 0:
            local.chain.advance()
    return len(sent) / (time.perf_counter() - began)


def main() -> None:
    """Print the figures."""
    for name in PROGRAM_NAMES:
        local = LocalChain()
        rate = landed_per_s(local, transactions(local, [name], _ROUNDS))
        print(f"{name:16} {rate:8.0f} transactions/s of one swap")
    local = LocalChain()
    rate = landed_per_s(local, transactions(local, PROGRAM_NAMES, _ROUNDS))
    print(f"{'four legs':16} {rate:8.0f} transactions/s, {4 * rate:.0f} swaps/s")
    local = LocalChain()
    rate = sent_per_s(local, transactions(local, PROGRAM_NAMES[:1], _ROUNDS))
    print(f"{'with a preflight':16} {rate:8.0f} transactions/s of one swap, by JSON-RPC")


if __name__ == "__main__":
    main()
