"""A sandbox chain that only the test moves, with transactions for it."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.amm import AmmError, ChainTime, Direction, DlmmPool, PoolState
from service.chains.paper.pool_json import (
    METEORA_DAMM_V2,
    METEORA_DLMM,
    RAYDIUM_AMM_V4,
    RAYDIUM_CPMM,
    pool_id,
)
from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.builder import ComputeBudget, instructions, mark_of
from service.chains.solana.plan import PlannedLeg, SwapPlan
from service.chains.solana.programs.meteora_dlmm import arrays_to_carry
from service.chains.solana.programs.pool import LegSwap, OnChainPool
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.domain.quote import SwapMode
from service.sandbox.accounts import rent_exempt
from service.sandbox.chain import Genesis, SandboxChain, Timing
from service.sandbox.faults import Faults
from service.sandbox.genesis import genesis_of
from service.sandbox.market import PoolMover
from service.sandbox.node import Node
from service.sandbox.rpc.methods import answer
from tests.support.clock import START_S, ManualClock

PROGRAM_NAMES = (RAYDIUM_CPMM, RAYDIUM_AMM_V4, METEORA_DLMM, METEORA_DAMM_V2)
SOL = 10**9
RENT = rent_exempt(165)
BUDGET = ComputeBudget(compute_units=400_000, loaded_bytes=16 * 1024 * 1024, priority_fee=7_000)
SKIP = {"encoding": "base64", "skipPreflight": True}


class CallFailedError(Exception):
    """A node answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error}")
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


def passing(chain: SandboxChain, slots: int, every: int, *, blocks: bool) -> Iterator[int]:
    """Let slots pass, a few at a time; yield how many have just passed, without blocks if so wanted."""
    while slots > 0:
        step = min(every, slots)
        slots -= step
        if blocks:
            chain.advance(step)
        else:
            chain.skip(step)
        yield step


class LocalChain:
    """A chain of seed 1, or a given one, with one endpoint; its wallet and its pools are at hand."""

    def __init__(self, seed: int = 1, chain: SandboxChain | None = None) -> None:
        self.chain = chain or SandboxChain(_genesis(seed), AmmPrograms(MAINNET), Timing())
        self.node = Node(self.chain, Faults(ManualClock().seeded("faults")))
        self.mover = PoolMover(self.chain)
        self.wallet: Keypair = self.chain.genesis.wallet
        self._built = 0

    def call(self, method: str, *params: Any, node: Node | None = None) -> Any:
        """Return the result of a method."""
        given = answer(
            node or self.node, {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        )
        if "error" in given:
            raise CallFailedError(given["error"])
        return given["result"]

    def another_node(self) -> Node:
        """Return another endpoint over the same chain."""
        return Node(self.chain, Faults(ManualClock().seeded("more faults")))

    def pool(self, program: str, first: str = "SOL", second: str = "USDC") -> OnChainPool:
        """Return a pool."""
        key = self.chain.genesis.pools[pool_id(program, first, second)]
        account = self.account(key)
        return self.chain.programs.open(key, account.owner, account.data)

    def state(self, pool: OnChainPool) -> PoolState:
        """Return a pool's state after the last block."""
        return pool.state(
            {key: account.data for key in pool.state_accounts() if (account := self.found(key))}
        )

    def found(self, key: Pubkey) -> Any:
        """Return an account after the last block, or None."""
        return self.chain.accounts.at(key, self.chain.tip.slot)

    def account(self, key: Pubkey) -> Any:
        """Return an account after the last block."""
        account = self.found(key)
        assert account is not None
        return account

    @property
    def now(self) -> ChainTime:
        """The time of the last block."""
        return ChainTime(self.chain.tip.time_s, self.chain.tip.slot)

    def leg(
        self, program: str, amount_in: int, minimum_out: int | None = None, *, sells_sol: bool = True
    ) -> PlannedLeg:
        """Return an exact-in leg; without a minimum it must pay what is quoted now."""
        pool = self.pool(program)
        sol_first = pool.addresses.token_a.mint == WRAPPED_SOL
        direction = Direction.A_TO_B if sol_first is sells_sol else Direction.B_TO_A
        return self.leg_of(pool, direction, amount_in, minimum_out)

    def leg_at_any_price(self, program: str, amount_in: int, *, sells_sol: bool) -> PlannedLeg:
        """Return an exact-in leg that may be more than the pool or the wallet can pay."""
        try:
            return self.leg(program, amount_in, 1, sells_sol=sells_sol)
        except AmmError:
            whole = self.leg(program, SOL, 1, sells_sol=sells_sol)
            return replace(whole, swap=replace(whole.swap, amount_in=amount_in))

    def leg_of(
        self, pool: OnChainPool, direction: Direction, amount_in: int, minimum_out: int | None = None
    ) -> PlannedLeg:
        """Return an exact-in leg in a pool; without a minimum it must pay what is quoted now."""
        state = self.state(pool)
        quote = state.quote_exact_in(direction, amount_in, self.now)
        least = quote.amount_out if minimum_out is None else minimum_out
        swap = LegSwap(direction, SwapMode.EXACT_IN, amount_in, least)
        after = quote.next_state()
        if isinstance(state, DlmmPool) and isinstance(after, DlmmPool):
            swap = replace(swap, bin_arrays=arrays_to_carry(state, after, direction, spare=1))
        return PlannedLeg(pool, swap)

    def instructions(self, legs: Sequence[PlannedLeg]) -> list[Instruction]:
        """Return the instructions of parallel legs, with a mark of their own."""
        self._built += 1
        plan = SwapPlan(tuple((leg,) for leg in legs))
        return instructions(plan, self.wallet.pubkey(), mark_of("order", self._built), RENT)

    def signed(
        self,
        instructions_: Sequence[Instruction],
        config: TransactionConfig | None = None,
        blockhash: Hash | None = None,
        payer: Keypair | None = None,
    ) -> VersionedTransaction:
        """Return a version 1 transaction."""
        keys = payer or self.wallet
        message = MessageV1.try_compile(
            keys.pubkey(),
            list(instructions_),
            blockhash or self.chain.tip.blockhash,
            config or BUDGET.config,
        )
        return VersionedTransaction(message, [keys])

    def swap(self, *legs: PlannedLeg, blockhash: Hash | None = None) -> VersionedTransaction:
        """Return a transaction of parallel legs."""
        return self.signed(self.instructions(legs), blockhash=blockhash)

    def sell(self, program: str = RAYDIUM_CPMM, minimum_out: int | None = None) -> VersionedTransaction:
        """Return a transaction that sells one SOL in one pool."""
        return self.swap(self.leg(program, SOL, minimum_out))

    def send(self, transaction: VersionedTransaction, node: Node | None = None) -> str:
        """Send a transaction without a preflight, and return its signature."""
        signature: str = self.call("sendTransaction", wire(transaction), SKIP, node=node)
        return signature

    def status(self, signature: str, node: Node | None = None) -> Any:
        """Return what a node knows of a signature."""
        return self.call("getSignatureStatuses", [signature], {"searchTransactionHistory": True}, node=node)[
            "value"
        ][0]


@cache
def _genesis(seed: int) -> Genesis:
    return genesis_of(seed, int(START_S), MAINNET, ManualClock())


def wire(transaction: VersionedTransaction) -> str:
    """Return a transaction as clients send it."""
    return base64.b64encode(bytes(transaction)).decode()
