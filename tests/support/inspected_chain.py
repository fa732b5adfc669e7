"""A served chain that looks like another cluster than a sandbox, and its inspector."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from service.chains.inspection import Check
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.inspection.cluster import UPGRADEABLE_LOADER
from service.chains.solana.inspection.inspector import SolanaInspector
from service.chains.solana.inspection.subject import Subject
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.sending.signer import LocalSigner
from service.domain.mode import TradingMode
from service.domain.tokens import TOKENS
from service.sandbox.accounts import StoredAccount
from tests.support.clock import ManualClock
from tests.support.local_chain import PROGRAM_NAMES, SOL, LocalChain
from tests.support.served_chain import ServedChain, served_chain

SLOTS = 300
"""How old the chain is: older than a transaction can get."""

_CODE = (3).to_bytes(4, "little") + (777).to_bytes(8, "little")


class HastyClock(ManualClock):
    """A clock on which every wait is over at once: nothing here waits in a loop."""

    async def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self._elapsed_s += max(0.0, seconds)


class InspectedChain:
    """A chain whose programs have code, and whose endpoints have history.

    Args:
        served: The chain.
        clock: Moved by the test.
        subject: What is inspected.
    """

    def __init__(self, served: ServedChain, clock: ManualClock, subject: Subject) -> None:
        self.served = served
        self.local: LocalChain = served.local
        self.clock = clock
        self.subject = subject

    def write(self, key: Pubkey, account: StoredAccount | None) -> None:
        """Change an account in the chain's newest block, and let it be final."""
        chain = self.served.chain
        chain.accounts.write(chain.tip.slot, key, account)
        chain.advance(40)

    @asynccontextmanager
    async def inspector(self, **changes: Any) -> AsyncIterator[SolanaInspector]:
        """Return an inspector of the subject with some changes."""
        inspector = SolanaInspector(replace(self.subject, **changes), self.clock)
        await inspector.start()
        try:
            yield inspector
        finally:
            await inspector.stop()

    async def checks(self, name: str | None = None, **changes: Any) -> list[Check]:
        """Return all checks, or those of a name."""
        async with self.inspector(**changes) as inspector:
            return [each async for each in inspector.checks() if name in (None, each.name)]

    async def check(self, name: str, **changes: Any) -> Check:
        """Return the only check of a name."""
        [found] = await self.checks(name, **changes)
        return found


def listed_pools(local: LocalChain, names: Sequence[str] = PROGRAM_NAMES) -> list[ListedPool]:
    """Return the pools for SOL and USDC of programs."""
    pools = [local.pool(name).addresses for name in names]
    return [ListedPool(each.program, each.pool) for each in pools]


@asynccontextmanager
async def inspected_chain(*roles: str, slots: int = SLOTS) -> AsyncIterator[InspectedChain]:
    """Serve a chain of so many slots, with an endpoint for each role; see ``served_chain``."""
    clock = HastyClock()
    async with served_chain(*roles, clock=clock, started=False) as served:
        chain = served.chain
        for program in (getattr(MAINNET, name) for name in MAINNET.__slots__):
            code = Pubkey.find_program_address([bytes(program)], UPGRADEABLE_LOADER)[0]
            chain.accounts.write(
                chain.tip.slot, code, StoredAccount(SOL, UPGRADEABLE_LOADER, _CODE + bytes(99))
            )
        chain.advance(slots)
        await clock.advance(slots / 5)
        subject = Subject(
            cluster="devnet",
            genesis_hash=str(chain.genesis.genesis_hash),
            ids=MAINNET,
            urls=served.urls,
            is_local=False,
            max_fee=1_000_000,
            sol_reserve=SOL // 20,
            hop_margin_bps=5,
            signer_timeout_s=5,
            pools_file=Path("/nowhere/pools.toml"),
            mode=TradingMode.PAPER,
            check_limits=lambda _signer: None,
            load_signer=lambda: LocalSigner(served.local.wallet),
            load_tokens=lambda: [TOKENS["SOL"], TOKENS["USDC"]],
            load_pools=lambda: listed_pools(served.local),
        )
        yield InspectedChain(served, clock, subject)
