"""The announcements of the paper market, between instances.

The leader announces every commit with its number, so that each instance quotes from memory and completes
waiting calls for an outcome; an instance that has missed a commit reads the ledger. Followers announce
submitted transactions and commands.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from service.chains.paper import messages
from service.chains.paper.catalogue import Catalogue
from service.chains.paper.commands import Verdict
from service.chains.paper.ledger_rows import settled
from service.chains.paper.market import Execution
from service.chains.paper.outcomes import Outcomes
from service.chains.paper.pool import PaperPool
from service.chains.paper.records import Arrival, CommitId, Group, Submission
from service.clock import Clock
from service.domain.tokens import list_token
from service.domain.transaction import Landing, TransactionStatus
from service.postgres.deployment import Deployment
from service.redis.channel import Channel
from service.redis.link import RedisLink

log = logging.getLogger(__name__)


class Announcements:
    """Sends and receives announcements, and updates the catalogue with them.

    The callbacks must not block.

    Args:
        catalogue: The pools that this instance quotes.
        link: The connection to Redis.
        deployment: The deployment whose instances share the market.
        clock: Times the channel, and creates this sender's id.
        on_missed: Called when a commit was missed, or may have been.
        on_submitted: Called with transactions that were submitted to another instance.
        on_commands: Called when another instance has put commands into the ledger.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        link: RedisLink,
        deployment: Deployment,
        clock: Clock,
        *,
        on_missed: Callable[[], None],
        on_submitted: Callable[[Sequence[Arrival]], None],
        on_commands: Callable[[], None],
    ) -> None:
        self._catalogue = catalogue
        self._on_missed = on_missed
        self._on_submitted = on_submitted
        self._on_commands = on_commands
        self._channel = Channel(
            link,
            deployment,
            "market",
            clock,
            sender=clock.new_instance_id(),
            receive=self.receive,
            on_subscribed=on_missed,
        )
        self.outcomes = Outcomes[TransactionStatus]()
        """The final states of transactions, by signature."""
        self.verdicts = Outcomes[Verdict]()
        """The verdicts of commands, by id."""

    def start(self) -> None:
        """Subscribe to the channel."""
        self._channel.start()

    async def stop(self) -> None:
        """Unsubscribe from the channel."""
        await self._channel.stop()

    def announce_submitted(self, submissions: Sequence[Submission], arrivals: Sequence[Arrival]) -> None:
        """Announce transactions that this instance has added to the ledger, for the leader."""
        self._channel.publish(messages.encode_submitted(submissions, arrivals))

    def announce_commands(self) -> None:
        """Announce that this instance has added commands to the ledger, for the leader."""
        self._channel.publish(messages.encode_commands_waiting())

    def announce_commit(
        self, commit_id: CommitId, landing: Landing, group: Group, pools: Sequence[PaperPool]
    ) -> None:
        """Apply a commit that this instance has made, and announce it to the others."""
        for token in group.tokens:
            list_token(token)
        removed = [pool.id for pool in group.closed]
        self._catalogue.apply(commit_id, pools, removed=removed, traded=group.traded)
        self._channel.publish(messages.encode_commit(commit_id, landing, group))
        self._deliver(group.executions, landing, group.answers)

    def receive(self, message: bytes) -> None:
        """Process another instance's announcement; malformed messages are logged and dropped."""
        try:
            announced = messages.decode(message)
        except (ValueError, TypeError, LookupError) as error:
            log.warning("paper chain: malformed message (%s)", error, extra={"fault": "news"})
            return
        if isinstance(announced, messages.Submitted):
            self._on_submitted(announced.arrivals)
        elif isinstance(announced, messages.CommandsWaiting):
            self._on_commands()
        else:
            self._apply(announced)

    def _apply(self, commit: messages.Commit) -> None:
        for token in commit.tokens:
            list_token(token)
        known = self._catalogue.commit_id
        if commit.commit_id == (known.epoch, known.sequence + 1):
            self._catalogue.apply(
                commit.commit_id, commit.pools, removed=commit.removed, traded=commit.traded
            )
        elif commit.commit_id > known:
            self._on_missed()
        # Last, so that a caller that learns of a listing finds the pool.
        self._deliver(commit.executions, commit.landing, commit.answers)

    def _deliver(self, executions: Iterable[Execution], landing: Landing, answers: Mapping[str, str]) -> None:
        for execution in executions:
            self.outcomes.deliver(execution.signature, settled(execution, landing))
        for command_id, answer in answers.items():
            self.verdicts.deliver(command_id, Verdict(answer))
