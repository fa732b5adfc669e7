"""Builds the venue, and what commands need of it without building it.

Only this module and the paper market's own routes know which venues there are; all others know interfaces.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from service.chains.audit import VenueAudit
from service.chains.holding import ReadHoldings
from service.chains.inspection import Inspector
from service.chains.local_cluster import LocalCluster
from service.chains.order_limits import check_order_limits
from service.chains.paper.audit import PaperAudit
from service.chains.paper.faults import Fault, FaultyVenue
from service.chains.paper.ledger import Ledger
from service.chains.paper.settings import PaperSettings
from service.chains.paper.venue import PaperVenue
from service.chains.solana.inspection.inspector import SolanaInspector
from service.chains.solana.inspection.subject import subject_of
from service.chains.solana.sending.key_files import write_new_key
from service.chains.solana.setup import build_audit, build_solana, list_tokens
from service.chains.venue import Venue
from service.clock import Clock
from service.domain.mode import TradingMode
from service.domain.tokens import Token
from service.postgres.database import Database
from service.postgres.deployment import Deployment
from service.redis.link import RedisLink
from service.settings import InvalidSettingError, Settings
from service.solana_settings import Cluster


@dataclass(frozen=True, slots=True)
class BuiltVenue:
    """A venue, and what only venues of its kind have.

    Attributes:
        venue: The venue.
        paper: The paper market, where pools can be listed by request; None: the venue is another one.
        read_holdings: What its wallet holds on a chain; None: it is not on one.
    """

    venue: Venue
    paper: PaperVenue | None
    read_holdings: ReadHoldings | None = None


def trading_mode(settings: Settings) -> TradingMode:
    """Return whether the service trades real money."""
    return PaperVenue.mode if settings.solana is None else settings.solana.mode


def build_chain_venue(settings: Settings, clock: Clock, local: LocalCluster | None) -> BuiltVenue | None:
    """Build the venue if it is a chain: it needs no server of the service's. None: it is no chain.

    Args:
        settings: All settings.
        clock: The clock.
        local: The sandbox that a Solana venue is to trade on, if it is one.

    Raises:
        InvalidSettingError: The settings name something that cannot be used.
    """
    if settings.solana is None:
        return None
    solana = build_solana(settings.solana, settings.hop_margin_bps, clock, local)
    check_order_limits(settings, solana.mode)
    return BuiltVenue(solana, None, solana.holdings)


def build_venue(
    settings: Settings,
    database: Database,
    clock: Clock,
    link: RedisLink,
    deployment: Deployment,
    *,
    alone: bool,
    chain: BuiltVenue | None = None,
) -> BuiltVenue:
    """Build the venue.

    Args:
        settings: All settings.
        database: The venue's own connections to PostgreSQL.
        clock: The clock.
        link: The connection to Redis.
        deployment: The deployment whose instances share the venue.
        alone: Whether no other process can be using the database.
        chain: The venue, if it is a chain; see ``build_chain_venue``.

    Raises:
        InvalidSettingError: The settings name something that cannot be used.
    """
    if chain is not None:
        return chain
    parts = (database, clock, link, deployment, _paper_settings(settings, alone=alone))
    rates_ppm = {Fault(kind): rate for kind, rate in settings.paper_faults_ppm.items()}
    paper = FaultyVenue(*parts, rates_ppm=rates_ppm) if rates_ppm else PaperVenue(*parts)
    return BuiltVenue(paper, paper)


def venue_audit(settings: Settings) -> VenueAudit | None:
    """Return the audit of the venue's ledger; None: it is a chain, which ``chain_audit`` compares."""
    return PaperAudit() if settings.solana is None else None


def venue_inspector(settings: Settings, clock: Clock, local: LocalCluster | None) -> Inspector | None:
    """Return what looks at the venue before it trades; None: the paper market is made by the service itself.

    Args:
        settings: All settings.
        clock: The clock.
        local: The sandbox that a Solana venue is to trade on, if it is one.

    Raises:
        InvalidSettingError: The settings name something that cannot be used.
    """
    if settings.solana is None:
        return None
    solana = settings.solana
    subject = subject_of(
        solana, settings.hop_margin_bps, local, lambda: check_order_limits(settings, solana.mode)
    )
    return SolanaInspector(subject, clock)


def new_wallet(file: Path) -> str:
    """Make a key for a venue that needs one, write it to a new file, and return its public key.

    Raises:
        OSError: The file exists, or cannot be written.
    """
    return write_new_key(file)


def chain_audit(
    settings: Settings, clock: Clock, since: datetime | None, local: LocalCluster | None
) -> VenueAudit:
    """Return the comparison of the orders with the chain.

    Args:
        settings: All settings.
        clock: Measures time.
        since: Only what has changed from this time on; None: everything.
        local: The sandbox that the venue is on, if it is on one.

    Raises:
        InvalidSettingError: The venue is on no chain, or cannot be read.
    """
    if settings.solana is None:
        raise InvalidSettingError(
            "audit --chain needs VENUE=solana: with the paper market's ledger every audit compares the orders"
        )
    return build_audit(settings.solana, clock, since, local)


def list_chain_tokens(settings: Settings) -> None:
    """Make the tokens known that are in the list of a chain, if the venue is one with a list.

    Raises:
        InvalidSettingError: The list cannot be used.
    """
    if settings.solana is not None and settings.solana.cluster is not Cluster.SANDBOX:
        list_tokens(settings.solana)


async def find_tokens(
    settings: Settings, database: Database, clock: Clock, names: Collection[str]
) -> Sequence[Token]:
    """Return the tokens with these symbols or mints that the venue has listed; built-in ones are left out.

    Raises:
        InvalidSettingError: The venue's list of tokens cannot be used.
        VenueUnavailableError: The venue did not answer.
    """
    if settings.solana is not None:
        list_chain_tokens(settings)
        return ()
    return await Ledger(database, clock).tokens(names)


def _paper_settings(settings: Settings, *, alone: bool) -> PaperSettings:
    return PaperSettings(
        seed=settings.paper_seed,
        quote_delay_ms=settings.quote_delay_ms,
        execution_delay_ms=settings.execution_delay_ms,
        price_variance_ppm=settings.price_variance_ppm,
        failure_rates=settings.paper_failure_rates,
        balances=settings.paper_balances,
        slot_ms=settings.slot_ms,
        valid_slots=settings.paper_tx_valid_slots,
        group_limit=settings.write_group_limit,
        alone=alone,
        listing_every_s=settings.paper_listing_every_s,
        hop_margin_bps=settings.hop_margin_bps,
    )
