"""Commands on a paper market, and an instance's catalogue of pools as they are listed and delisted."""

from dataclasses import replace
from itertools import count
from typing import Any, cast

import pytest

from service.amm import CpmmPool
from service.chains.paper import catalogue as catalogue_module
from service.chains.paper import commands
from service.chains.paper.catalogue import Catalogue
from service.chains.paper.commands import (
    Command,
    DelistPool,
    ListPool,
    Registrar,
    Verdict,
    decode,
    encode,
)
from service.chains.paper.genesis import initial_state
from service.chains.paper.listing import token_of
from service.chains.paper.market import Market
from service.chains.paper.pool import Origin, PaperPool, owed
from service.chains.paper.pool_json import METEORA_DLMM, PROGRAMS, RAYDIUM_CPMM, pool_id
from service.chains.paper.records import CommitId
from service.chains.venue import MarketChange, PoolRef, Venue
from service.domain.quote import Dex
from service.domain.tokens import TOKENS, Token, nameless
from service.routing import RouteLimits
from service.routing.quoting import pools_for
from service.triggers.market import MarketView
from tests.support.clock import ManualClock
from tests.support.market import SLOT, a_market

SOL, USDC, JUP, BONK = (TOKENS[symbol] for symbol in ("SOL", "USDC", "JUP", "BONK"))
GEM = token_of("GEM", 6)
ids = (f"command {number}" for number in count())


pytestmark = pytest.mark.usefixtures("forget_tokens")


def a_pool(token_a: Token, token_b: Token, program: str = RAYDIUM_CPMM, **changes: Any) -> PaperPool:
    pool = PaperPool(
        pool_id(program, token_a.symbol, token_b.symbol),
        PROGRAMS[program],
        program,
        token_a.symbol,
        token_b.symbol,
        CpmmPool(10**9, 10**9, 2_500),
        10**9,
        10**9,
        SLOT,
        Origin.LISTED,
    )
    return replace(pool, **changes)


def listing(token_a: Token, token_b: Token, **changes: Any) -> Command:
    return Command(next(ids), ListPool(a_pool(token_a, token_b, **changes), (token_a, token_b)))


def delisting(pool: PaperPool) -> Command:
    return Command(next(ids), DelistPool(pool.id))


def execute(market: Market, *wanted: Command, known: tuple[Token, ...] = ()) -> list[Verdict]:
    registrar = Registrar(market, [*TOKENS.values(), *known])
    return [*registrar.execute(wanted, SLOT).values()]


# --- commands


@pytest.mark.parametrize("wanted", [listing(GEM, SOL), delisting(a_pool(GEM, SOL))])
def test_a_command_survives_storing(wanted: Command) -> None:
    assert decode(wanted.id, encode(wanted)) == wanted


def test_a_pool_is_the_same_in_either_order_of_its_tokens() -> None:
    market = a_market()
    assert execute(market, listing(GEM, SOL), listing(SOL, GEM), listing(GEM, SOL)) == [
        Verdict.LISTED,
        Verdict.EXISTS,
        Verdict.EXISTS,
    ]
    assert execute(market, listing(SOL, GEM, program=METEORA_DLMM)) == [Verdict.LISTED]
    assert execute(market, listing(USDC, SOL)) == [Verdict.EXISTS]


def test_the_definition_of_a_token_never_changes() -> None:
    market = a_market()
    other = (replace(GEM, decimals=9), token_of("Gem", 6), replace(GEM, mint="elsewhere"))
    for token in other:
        # Known before, or listed by the same group.
        assert execute(market, listing(token, SOL), known=(GEM,)) == [Verdict.OTHER_TOKEN]
    group = [listing(GEM, USDC), *(listing(token, SOL) for token in other)]
    assert execute(market, *group) == [Verdict.LISTED, *[Verdict.OTHER_TOKEN] * 3]


def test_a_mint_has_one_name() -> None:
    market, unnamed = a_market(), nameless(GEM.mint, GEM.decimals)
    for known, token in ((GEM, unnamed), (unnamed, GEM)):
        assert execute(market, listing(token, SOL), known=(known,)) == [Verdict.OTHER_TOKEN]
    assert execute(market, listing(unnamed, SOL), listing(GEM, USDC)) == [Verdict.LISTED, Verdict.OTHER_TOKEN]


def test_new_tokens_are_only_those_of_listed_pools() -> None:
    registrar = Registrar(a_market(), TOKENS.values())
    shared = token_of("SHARED", 6)
    wanted = [listing(GEM, SOL), listing(shared, GEM), listing(shared, SOL), listing(token_of("gem", 6), SOL)]
    registrar.execute(wanted, SLOT)
    assert registrar.new_tokens == [GEM, shared]


def test_a_listed_pool_opens_in_the_slot_in_which_it_is_executed() -> None:
    market = a_market()
    Registrar(market, TOKENS.values()).execute([listing(GEM, SOL)], SLOT + 7)
    assert market.pools[a_pool(GEM, SOL).id].opened_slot == SLOT + 7


def test_only_listed_pools_are_delisted() -> None:
    market = a_market()
    founded = next(iter(market.pools.values()))
    assert execute(
        market,
        listing(GEM, SOL),
        delisting(a_pool(GEM, SOL)),
        delisting(a_pool(GEM, SOL)),
        delisting(founded),
    ) == [Verdict.LISTED, Verdict.DELISTED, Verdict.UNKNOWN, Verdict.GENESIS]


def test_a_group_ends_before_it_relists_a_pool_that_it_delisted() -> None:
    market = a_market()
    execute(market, listing(GEM, SOL))
    market.take_changes()
    again = listing(GEM, SOL)
    assert execute(market, delisting(a_pool(GEM, SOL)), again, listing(GEM, USDC)) == [Verdict.DELISTED]
    assert [pool.id for pool in market.take_changes().closed] == [a_pool(GEM, SOL).id]
    assert execute(market, again, listing(GEM, USDC)) == [Verdict.LISTED] * 2


def test_the_number_of_pools_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MOST_LISTED", 3)
    monkeypatch.setattr(commands, "MOST_SCHEDULED", 2)
    market = a_market()

    def scheduled(number: int) -> Command:
        return listing(token_of(f"NEW{number}", 6), SOL, origin=Origin.SCHEDULED)

    assert execute(market, scheduled(1)) == [Verdict.LISTED]
    market.take_changes()
    assert execute(market, scheduled(2), scheduled(3)) == [Verdict.LISTED] * 2
    # The oldest scheduled pool was removed.
    assert "raydium:NEW1-SOL:cpmm" not in market.pools
    mine = listing(GEM, SOL)
    assert execute(market, mine, listing(GEM, USDC)) == [Verdict.LISTED, Verdict.FULL]
    assert execute(market, scheduled(4)) == [Verdict.LISTED]
    assert execute(market, delisting(a_pool(GEM, SOL)), listing(GEM, USDC)) == [
        Verdict.DELISTED,
        Verdict.LISTED,
    ]


# --- pools from the given amounts


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "amounts", [(1, 1), (3, 2), (10**6, 17), (12_345_678_901, 10**15 + 7), (2**64 - 1, 2**64 - 1)]
)
def test_a_pool_holds_the_given_amounts_or_is_rejected(program: str, amounts: tuple[int, int]) -> None:
    try:
        state = initial_state(program, "GEM", "SOL", *amounts, 1_800_000_000)
    except ValueError:
        assert program not in {RAYDIUM_CPMM, "raydium_amm_v4"}
        return
    for held, sent in zip(owed(state), amounts, strict=True):
        # DAMM v2 counts slightly less as its reserves; the rest is in its vault.
        assert 0 <= sent - held <= (sent // 1_000 + 1 if program == "meteora_damm_v2" else 0)
        assert held > 0


@pytest.mark.parametrize("amounts", [(1, 2**64 - 1), (2**64 - 1, 1)])
@pytest.mark.parametrize("program", ["meteora_dlmm", "meteora_damm_v2"])
def test_a_price_out_of_range_is_rejected(program: str, amounts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"out of range|would be used"):
        initial_state(program, "GEM", "SOL", *amounts, 1_800_000_000)


# --- an instance's catalogue


class Known:
    """An instance's catalogue with applied commits; it records its notifications."""

    def __init__(self) -> None:
        self.told: list[MarketChange] = []
        self.catalogue = Catalogue(cast("Any", None), ManualClock(), self.told.append)
        self._sequence = 0

    def commit(self, *pools: PaperPool, removed: tuple[str, ...] = ()) -> None:
        self._sequence += 1
        self.catalogue.apply(CommitId(1, self._sequence), pools, removed=removed)


def test_a_pool_is_quoted_from_listing_to_delisting() -> None:
    known = Known()
    pool, other = a_pool(JUP, SOL), a_pool(JUP, SOL, METEORA_DLMM)
    known.commit(pool)
    ref = PoolRef(pool.id, pool.dex, "JUP", "SOL")
    assert known.catalogue.refs("JUP", "SOL") == known.catalogue.refs("SOL", "JUP") == [ref]
    assert known.catalogue.tokens == [SOL, JUP]
    known.commit(replace(pool, vault_a=1))
    known.commit(other)
    assert [each.dex for each in known.catalogue.refs("JUP", "SOL")] == [Dex.METEORA, Dex.RAYDIUM]
    known.commit(removed=(other.id,))
    known.commit(removed=(pool.id, "never heard of"))
    assert known.catalogue.refs("JUP", "SOL") == ()
    assert (known.catalogue.tokens, known.catalogue.pools) == ([], {})
    added_or_removed = [[each.id for each in change.added_or_removed] for change in known.told]
    assert added_or_removed == [[pool.id], [], [other.id], [other.id], [pool.id]]


def test_an_earlier_commit_changes_nothing() -> None:
    known = Known()
    known.commit(a_pool(JUP, SOL))
    known.catalogue.apply(CommitId(1, 0), [a_pool(JUP, BONK)], removed=[a_pool(JUP, SOL).id])
    assert list(known.catalogue.pools) == [a_pool(JUP, SOL).id]


def test_the_oldest_tokens_without_pools_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_module, "_TOKENS_KEPT", 2)
    known = Known()
    tokens = [token_of(f"T{number}", 6) for number in range(4)]
    TOKENS.update({token.symbol: token for token in tokens})
    for token in tokens:
        known.commit(a_pool(token, SOL))
    for token in tokens:
        known.commit(removed=(a_pool(token, SOL).id,))
    assert [token.symbol for token in tokens if token.symbol in TOKENS] == ["T3"]
    # A token of the genesis, or one that a pool trades again, is kept.
    assert TOKENS.keys() >= {"SOL", "USDC"}
    known.commit(a_pool(tokens[3], SOL))
    for token in (JUP, BONK):
        known.commit(a_pool(token, USDC))
        known.commit(removed=(a_pool(token, USDC).id,))
    assert TOKENS.keys() >= {"T3", "JUP", "BONK"}


def test_a_token_that_was_listed_again_is_not_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_module, "_TOKENS_KEPT", 2)
    known = Known()
    TOKENS[GEM.symbol] = GEM
    for _ in range(5):
        known.commit(a_pool(GEM, SOL))
        known.commit(removed=(a_pool(GEM, SOL).id,))
        # The response to a listing shows the pool, although it has been delisted since.
        assert GEM.symbol in TOKENS


# --- the pairs that the triggers check again


def test_triggers_check_the_pairs_that_a_new_pool_serves() -> None:
    tokens = [*TOKENS.values(), GEM, token_of("ORE", 6)]
    TOKENS.update({token.symbol: token for token in tokens})
    pairs = [(one.symbol, other.symbol) for one in tokens for other in tokens if one is not other]
    known = Known()
    venue = cast("Venue", KnownPools(known.catalogue))
    view = MarketView(venue, ManualClock(), RouteLimits())
    for token_a, token_b in (
        *((SOL, USDC), (JUP, SOL), (GEM, SOL), (GEM, USDC)),
        *((tokens[-1], JUP), (tokens[-1], USDC), (BONK, SOL), (GEM, JUP)),
    ):
        before = {pair: serving(venue, pair) for pair in pairs}
        known.commit(a_pool(token_a, token_b))
        view.apply(known.told[-1], watching=True)
        after = {pair: serving(venue, pair) for pair in pairs}
        moved, other_pools = view.pop_changed(pairs)
        assert {pair for pair in pairs if before[pair] != after[pair]} <= other_pools <= moved
        assert {pair for pair in pairs if view._changes.pools(pair) != after[pair]} == set()
        # But not all pairs.
        assert len(other_pools) < len(pairs)


class KnownPools:
    """A venue that has only pools."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.pools = catalogue.refs


def serving(venue: Venue, pair: tuple[str, str]) -> frozenset[str]:
    return frozenset(pool.id for pool in pools_for(venue, *pair))
