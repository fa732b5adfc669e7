"""The paper chain: one instance at a time executes transactions, slot by slot, in the order of landing.

The leader holds the market in memory. What is due executes as one group and one commit, which names the
leader's epoch: one that was stopped, and has been succeeded, lands nothing. Every commit is published with
its number, so that every instance quotes from memory; a follower that has missed one reads the ledger.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from service.background import Background
from service.chains.paper import messages
from service.chains.paper.catalogue import Catalogue
from service.chains.paper.command_queue import CommandQueue
from service.chains.paper.commands import Verdict
from service.chains.paper.leader import ChainSettings, EpochOverError, Leader
from service.chains.paper.ledger import Ledger
from service.chains.paper.ledger_rows import settled
from service.chains.paper.market import Execution
from service.chains.paper.outcomes import Outcomes
from service.chains.paper.pool import PaperPool
from service.chains.paper.records import Arrival, CommitId, Group, Submission
from service.chains.venue import OnMarketChange, VenueUnavailableError
from service.clock import Clock
from service.domain.tokens import list_token
from service.domain.transaction import Landing, TransactionStatus
from service.postgres.deployment import Deployment
from service.postgres.leases import next_check_s
from service.redis.channel import Channel
from service.redis.link import RedisLink

log = logging.getLogger(__name__)

_LEASE_MS = 3_000
_CHECK_EVERY_S = 1.0
_PAUSE_AFTER_FAULT_S = 0.2
_FORGET_EVERY_S = 60.0

VOLUMES_KEPT_S = 3_600
"""For how long it is known what was traded."""


class Chain:
    """Executes what has been submitted, while it leads; follows while another does.

    Args:
        ledger: Where pools and transactions are.
        commands: What waits to be done with pools.
        clock: PostgreSQL's time.
        link: To the other instances.
        deployment: Whose instances share the market.
        settings: See there.
        on_change: Told of every commit, as soon as it is quoted from here.
    """

    def __init__(
        self,
        ledger: Ledger,
        commands: CommandQueue,
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
        self._id = clock.new_instance_id()
        self._channel = Channel(
            link,
            deployment,
            "market",
            clock,
            sender=self._id,
            receive=self._receive,
            on_subscribed=self._look_now,
        )
        self._executor = Background("paper chain", self._run_for_ever, clock)
        self._outcomes = Outcomes[TransactionStatus]()
        self._verdicts = Outcomes[Verdict]()
        self.catalogue = Catalogue(ledger, clock, on_change)
        """What is quoted from here."""
        # While this instance leads.
        self._leader: Leader | None = None
        self._changed = asyncio.Event()
        self._next_check = 0.0
        self._next_forgetting = 0.0

    async def start(self) -> None:
        """Read the pools, lead if nobody does, and begin to execute."""
        await self._check()
        self._channel.start()
        self._executor.start()

    async def stop(self) -> None:
        """Stop executing; what is pending is executed by the next leader."""
        leader = self._leader
        await self.catalogue.stop()
        await self._channel.stop()
        await self._executor.stop()
        self._leader = None
        if leader is not None:
            try:
                await self._ledger.resign(leader.epoch)
            except VenueUnavailableError as error:
                log.debug("paper chain: the lease runs out by itself (%s)", error)

    @property
    def leading(self) -> bool:
        """Whether this instance executes."""
        return self._leader is not None

    def look_for_commands(self) -> None:
        """Have the commands executed that the ledger has."""
        if self._leader is None:
            self._channel.publish(messages.encode_asked())
        else:
            self._leader.look_for_commands()
            self._changed.set()

    async def verdict(self, command_id: str, timeout_s: float) -> Verdict | None:
        """Wait for a command to be executed; None when that is not heard of here in time."""
        return await self._verdicts.wait(command_id, timeout_s)

    def take_in(self, submissions: Sequence[Submission], arrivals: Sequence[Arrival]) -> None:
        """Have transactions executed that the ledger has just taken in."""
        if not arrivals:
            return
        if self._leader is None:
            self._channel.publish(messages.encode_submitted(submissions, arrivals))
        else:
            self._push(self._leader, arrivals)

    def _push(self, leader: Leader, arrivals: Iterable[Arrival]) -> None:
        leader.push(arrivals)
        self._changed.set()

    async def outcome(self, signature: str, timeout_s: float) -> TransactionStatus | None:
        """Wait for a transaction to be settled; None when that is not heard of here in time."""
        return await self._outcomes.wait(signature, timeout_s)

    async def _run_for_ever(self) -> None:
        while True:
            try:
                await self._turn()
            except EpochOverError:
                self._follow()
            except VenueUnavailableError as error:
                log.warning("paper chain: PostgreSQL is away (%s)", error, extra={"fault": "postgresql"})
                # Whether the last commit was made is unknown: begin anew from what the ledger has.
                self._follow()
                await self._clock.sleep(_PAUSE_AFTER_FAULT_S)
            except BaseException:
                self._follow()
                raise

    async def _turn(self) -> None:
        """Do what there is to do in this slot, or wait until there is something."""
        self._changed.clear()
        if self._clock.monotonic() >= self._next_check:
            await self._check()
        wait_s = self._next_check - self._clock.monotonic()
        if self._leader is not None:
            if await self._leader.turn():
                return
            wait_s = min(wait_s, self._leader.seconds_to_next())
        try:
            async with asyncio.timeout(max(wait_s, 0)):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _check(self) -> None:
        """Lead on, or take the lead if nobody has it; else see that nothing was missed."""
        self._next_check = self._clock.monotonic() + _CHECK_EVERY_S
        if self._leader is not None:
            if await self._ledger.renew(self._leader.epoch):
                await self._leader.look()
                await self._forget()
                return
            log.info("paper chain: the epoch is over")
            self._follow()
        commit_id = await self._ledger.lead(self._id, lease_ms=_LEASE_MS, alone=self._settings.alone)
        if isinstance(commit_id, CommitId):
            await self._lead(commit_id)
        else:
            self._next_check = self._clock.monotonic() + next_check_s(commit_id, at_most_s=_CHECK_EVERY_S)
            await self.catalogue.refresh()

    async def _forget(self) -> None:
        if self._clock.monotonic() >= self._next_forgetting:
            self._next_forgetting = self._clock.monotonic() + _FORGET_EVERY_S
            await self._ledger.forget_volumes(VOLUMES_KEPT_S)
            await self._commands.forget()

    async def _lead(self, commit_id: CommitId) -> None:
        await self._ledger.fund_wallets(commit_id.epoch, self._settings.funds)
        leader = Leader(
            commit_id.epoch,
            self._ledger,
            self._commands,
            self.catalogue,
            self._clock,
            self._settings,
            on_settled=self._take,
            on_final=self._outcomes.tell,
        )
        await leader.begin()
        # Last: with it begins executing.
        self._leader = leader
        log.info("paper chain: leading, epoch %d", commit_id.epoch)

    def _follow(self) -> None:
        """Lead no more, unless the next check finds that nobody else does."""
        self._leader = None
        self._next_check = 0.0

    def _take(self, commit_id: CommitId, landing: Landing, group: Group, pools: Sequence[PaperPool]) -> None:
        """Tell everybody of a commit."""
        for token in group.tokens:
            list_token(token)
        gone = [pool.id for pool in group.closed]
        self.catalogue.take(commit_id, pools, gone=gone, traded=group.traded)
        self._channel.publish(messages.encode_commit(commit_id, landing, group))
        self._tell(group.executions, landing, group.answers)

    def _tell(self, executions: Iterable[Execution], landing: Landing, answers: Mapping[str, str]) -> None:
        for execution in executions:
            self._outcomes.tell(execution.signature, settled(execution, landing))
        for command_id, answer in answers.items():
            self._verdicts.tell(command_id, Verdict(answer))

    def _receive(self, message: bytes) -> None:
        """Take another instance's news."""
        try:
            told = messages.decode(message)
        except (ValueError, TypeError, LookupError) as error:
            log.warning("paper chain: a message that is not one of ours (%s)", error, extra={"fault": "news"})
            return
        if isinstance(told, messages.Submitted):
            if self._leader is not None:
                self._push(self._leader, told.arrivals)
            return
        if isinstance(told, messages.Asked):
            if self._leader is not None:
                self.look_for_commands()
            return
        for token in told.tokens:
            list_token(token)
        known = self.catalogue.commit_id
        if told.commit_id == (known.epoch, known.sequence + 1):
            self.catalogue.take(told.commit_id, told.pools, gone=told.gone, traded=told.traded)
        elif told.commit_id > known:
            self._look_now()
        # Last: who is told of a listing finds the pool.
        self._tell(told.executions, told.landing, told.answers)

    def _look_now(self) -> None:
        """Something may have been missed: see what the ledger has."""
        self._next_check = 0.0
        self._changed.set()
