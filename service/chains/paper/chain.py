"""The paper chain: one instance at a time executes transactions, slot by slot, in the order of landing.

The leader holds the market in memory. Due transactions execute as one group and one commit, which names the
leader's epoch: a stale leader's commit is rejected by its epoch.
"""

import asyncio
import logging
from collections.abc import Sequence

from service.background import Background
from service.chains.paper.announcements import Announcements
from service.chains.paper.catalogue import Catalogue
from service.chains.paper.command_queue import CommandQueue
from service.chains.paper.commands import Verdict
from service.chains.paper.leader import ChainSettings, EpochOverError, Leader
from service.chains.paper.ledger import Ledger
from service.chains.paper.market import Market
from service.chains.paper.records import Arrival, Submission
from service.chains.venue import OnMarketChange, VenueUnavailableError
from service.clock import Clock
from service.domain.transaction import TransactionStatus
from service.postgres.database import UnavailableError
from service.postgres.deployment import Deployment
from service.postgres.leadership import Leadership, Lease
from service.redis.link import RedisLink

log = logging.getLogger(__name__)

_CHECK_EVERY_S = 1.0
_PAUSE_AFTER_FAULT_S = 0.2
_FORGET_EVERY_S = 60.0

VOLUMES_KEPT_S = 3_600
"""How long traded volumes are kept."""


class Chain:
    """Executes submitted transactions while this instance leads; follows while another does.

    Args:
        ledger: The pools and transactions.
        commands: The queue of commands.
        lease: The leader's lease.
        clock: PostgreSQL's time.
        link: The connection to Redis, for announcements.
        deployment: The deployment whose instances share the market.
        settings: See ``ChainSettings``.
        on_change: Called with every commit's change, as soon as this instance's quotes include it.
    """

    def __init__(
        self,
        ledger: Ledger,
        commands: CommandQueue,
        lease: Lease,
        clock: Clock,
        link: RedisLink,
        *,
        deployment: Deployment,
        settings: ChainSettings,
        on_change: OnMarketChange,
    ) -> None:
        self._ledger = ledger
        self._commands = commands
        self._clock = clock
        self._settings = settings
        self._leadership = Leadership(
            lease,
            clock,
            name="paper chain",
            retry_s=_PAUSE_AFTER_FAULT_S,
            on_change=self._check_now,
            progress=lambda: self._progressed_at,
        )
        self.catalogue = Catalogue(ledger, clock, on_change)
        """The pools that this instance quotes."""
        self.announcements = Announcements(
            self.catalogue,
            link,
            deployment,
            clock,
            on_missed=self._check_now,
            on_submitted=self._push,
            on_commands=self._execute_commands,
        )
        """The announcements between instances."""
        self._executor = Background("paper chain", self._run_forever, clock)
        # Set while this instance leads.
        self._leader: Leader | None = None
        self._changed = asyncio.Event()
        self._next_check = 0.0
        self._next_forgetting = 0.0
        self._progressed_at = 0.0
        """When the leader last completed work."""

    async def start(self) -> None:
        """Read the pools, lead if no other instance does, and begin to execute.

        Raises:
            VenueUnavailableError: PostgreSQL is unavailable.
        """
        try:
            await self._leadership.check()
        except UnavailableError as error:
            raise VenueUnavailableError(str(error)) from error
        await self._check()
        self.announcements.start()
        self._leadership.start()
        self._executor.start()

    async def stop(self) -> None:
        """Stop executing; the next leader executes pending transactions."""
        await self.catalogue.stop()
        await self.announcements.stop()
        await self._executor.stop()
        self._leader = None
        await self._leadership.stop()

    @property
    def leading(self) -> bool:
        """Whether this instance leads."""
        return self._leader is not None

    @property
    def market(self) -> Market | None:
        """The market, ahead of its next commit, while this instance leads."""
        return None if self._leader is None else self._leader.market

    def look_for_commands(self) -> None:
        """Have the leader execute the commands that wait in the ledger."""
        if self._leader is None:
            self.announcements.announce_commands()
        else:
            self._execute_commands()

    async def verdict(self, command_id: str, timeout_s: float) -> Verdict | None:
        """Wait for a command's verdict; None if it is not announced in time."""
        return await self.announcements.verdicts.wait(command_id, timeout_s)

    def execute(self, submissions: Sequence[Submission], arrivals: Sequence[Arrival]) -> None:
        """Have the leader execute transactions that were just added to the ledger."""
        if not arrivals:
            return
        if self._leader is None:
            self.announcements.announce_submitted(submissions, arrivals)
        else:
            self._push(arrivals)

    async def outcome(self, signature: str, timeout_s: float) -> TransactionStatus | None:
        """Wait for a transaction's final status; None if it is not announced in time."""
        return await self.announcements.outcomes.wait(signature, timeout_s)

    def _push(self, arrivals: Sequence[Arrival]) -> None:
        if self._leader is not None:
            self._leader.push(arrivals)
            self._changed.set()

    def _execute_commands(self) -> None:
        if self._leader is not None:
            self._leader.look_for_commands()
            self._changed.set()

    async def _run_forever(self) -> None:
        while True:
            try:
                await self._turn()
            except EpochOverError:
                self._abandon_epoch()
            except VenueUnavailableError as error:
                log.warning(
                    "paper chain: PostgreSQL is unavailable (%s)", error, extra={"fault": "postgresql"}
                )
                # The outcome of the last commit is unknown.
                self._abandon_epoch()
                await self._clock.sleep(_PAUSE_AFTER_FAULT_S)
            except Exception:
                self._abandon_epoch()
                raise

    def _abandon_epoch(self) -> None:
        """Abandon this epoch, so that nothing more can be committed in it."""
        leader, self._leader = self._leader, None
        if leader is not None:
            self._leadership.abandon(leader.epoch)
        self._next_check = 0.0

    async def _turn(self) -> None:
        """Execute everything due in this slot, or wait until something is due."""
        self._changed.clear()
        if self._clock.monotonic() >= self._next_check:
            await self._check()
        wait_s = self._next_check - self._clock.monotonic()
        if self._leader is not None:
            executed = await self._leader.turn()
            self._progressed_at = self._clock.monotonic()
            if executed:
                return
            wait_s = min(wait_s, self._leader.seconds_to_next())
        try:
            async with asyncio.timeout(max(wait_s, 0)):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _check(self) -> None:
        """Lead or follow, according to the lease, and load whatever was missed."""
        self._next_check = self._clock.monotonic() + _CHECK_EVERY_S
        epoch = self._leadership.epoch
        if self._leader is not None and self._leader.epoch != epoch:
            log.info("paper chain: the epoch is over")
            self._leader = None
        if epoch is None:
            await self.catalogue.refresh()
        elif self._leader is None:
            await self._lead(epoch)
        else:
            await self._leader.load_waiting()
            await self._forget()
            self._progressed_at = self._clock.monotonic()

    async def _lead(self, epoch: int) -> None:
        leader = Leader(
            epoch,
            self._ledger,
            self._commands,
            self.catalogue,
            self._clock,
            self._settings,
            on_settled=self.announcements.announce_commit,
            on_final=self.announcements.outcomes.deliver,
        )
        try:
            await self._ledger.fund_wallets(epoch, self._settings.funds)
            await leader.begin()
        except Exception:
            # What was sent and not answered must not be committed later, beside what the next attempt reads.
            self._leadership.abandon(epoch)
            raise
        # Set last: execution begins with it.
        self._leader = leader
        log.info("paper chain: leading, epoch %d", epoch)

    async def _forget(self) -> None:
        if self._clock.monotonic() >= self._next_forgetting:
            self._next_forgetting = self._clock.monotonic() + _FORGET_EVERY_S
            await self._ledger.forget_volumes(VOLUMES_KEPT_S)
            await self._commands.forget()

    def _check_now(self) -> None:
        """Check the lease and the ledger now: something may have been missed, or the leader has changed."""
        self._next_check = 0.0
        self._changed.set()
