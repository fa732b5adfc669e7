"""Pools that are found by their tokens, and written to the list."""

from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from service.chains.inspection import InspectionError
from service.chains.paper.pool_json import RAYDIUM_CPMM
from service.domain.tokens import TOKENS
from tests.support.inspected_chain import inspected_chain, listed_pools
from tests.support.local_chain import PROGRAM_NAMES, SOL

USDC = TOKENS["USDC"].mint


async def test_the_pools_of_all_programs_are_found_in_either_sequence() -> None:
    async with inspected_chain() as inspected:
        [cpmm] = listed_pools(inspected.local, [RAYDIUM_CPMM])
        async with inspected.inspector(load_pools=lambda: [cpmm]) as inspector:
            found = await inspector.discover("SOL", "USDC")
            turned = await inspector.discover(USDC, "SOL")
        vaults = {name: inspected.local.state(inspected.local.pool(name)) for name in PROGRAM_NAMES}
    assert found.problems == []
    assert {each.program for each in found.pools} == set(vaults)
    assert {each.address for each in found.pools} == {each.address for each in turned.pools}
    by_program = {each.program: each for each in found.pools}
    first = by_program["raydium_cpmm"]
    assert first.reserves == (vaults[RAYDIUM_CPMM].vault_0, vaults[RAYDIUM_CPMM].vault_1)  # type: ignore[attr-defined]
    assert {each.fee_ppm for each in found.pools} == {1_000, 2_500}
    assert [each.listed for each in found.pools if each.program == "raydium_cpmm"] == [True]
    assert {each.problem for each in found.pools} == {None}
    sizes = [each.reserves[0] for each in found.pools if each.reserves]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1_000 * SOL


async def test_a_token_that_is_not_listed_is_known_by_its_mint_only() -> None:
    async with (
        inspected_chain() as inspected,
        inspected.inspector(load_tokens=lambda: [TOKENS["SOL"]]) as inspector,
    ):
        found = await inspector.discover("SOL", USDC)
        for name, reason in (
            ("USDC", "USDC is not in SOLANA_TOKENS"),
            (str(Pubkey.new_unique()), "does not exist on this cluster"),
            ("SOL", "two different tokens"),
            (str(inspected.local.wallet.pubkey()), "cannot be traded"),
        ):
            with pytest.raises(InspectionError, match=reason):
                await inspector.discover("SOL", name)
    assert len(found.pools) == 4
    assert {each.problem for each in found.pools} == {f"{USDC} is not in SOLANA_TOKENS"}
    assert {token.symbol for token in found.pools[0].tokens} == {"SOL", USDC}


async def test_a_program_that_cannot_be_searched_is_named() -> None:
    async with inspected_chain() as inspected:
        inspected.served.arm("error", times=1, method="getProgramAccounts", code=-32010, message="no index")
        async with inspected.inspector() as inspector:
            found = await inspector.discover("SOL", "USDC")
    assert [each.program for each in found.pools if each.program == "raydium_cpmm"] == []
    assert len(found.pools) == 3
    [problem] = found.problems
    assert problem.startswith("raydium_cpmm: getProgramAccounts: no index")


async def test_pools_are_added_to_the_list(tmp_path: Path) -> None:
    file = tmp_path / "solana" / "pools.toml"
    async with inspected_chain() as inspected:
        async with inspected.inspector(pools_file=file) as inspector:
            found = await inspector.discover("SOL", "USDC")
            assert inspector.list_pools(found.pools) == str(file)
            inspector.list_pools(found.pools)
        async with inspected.inspector(is_local=True) as inspector:
            with pytest.raises(InspectionError, match="the sandbox has pools of its own"):
                inspector.list_pools(found.pools)
        file.write_text("[[pool]]\n")
        async with inspected.inspector(pools_file=file) as inspector:
            with pytest.raises(InspectionError, match="pool 1: must have program, address"):
                inspector.list_pools(found.pools)
    assert file.read_text() == "[[pool]]\n"
