"""Token accounts, and which mints are refused."""

import struct

import pytest
from solders.pubkey import Pubkey

from service.amm.errors import MalformedStateError
from service.chains.solana.addresses import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, WRAPPED_SOL
from service.chains.solana.tokens import Mint, UnsupportedMintError, read_mint, token_amount
from tests.support.executed import USDC, executed

CASE = executed()["v1_one_leg_raydium_cpmm"]
PLAIN = CASE.data[USDC]
ACCOUNT_BYTES = 165


def extended(*extensions: tuple[int, int], kind: int = 1, padding: int = 0) -> bytes:
    """Return a Token-2022 mint with extensions of these types and lengths."""
    tail = b"".join(struct.pack("<HH", each, length) + bytes(length) for each, length in extensions)
    return PLAIN.ljust(ACCOUNT_BYTES, b"\0") + bytes([kind]) + tail + bytes(padding)


def test_recorded_accounts_are_read() -> None:
    assert read_mint(TOKEN_PROGRAM, PLAIN) == Mint(6, TOKEN_PROGRAM)
    assert read_mint(TOKEN_PROGRAM, CASE.data[WRAPPED_SOL]).decimals == 9
    amounts = {
        token_amount(account.data)
        for account in CASE.before.values()
        if account.owner == TOKEN_PROGRAM and len(account.data) == ACCOUNT_BYTES
    }
    assert amounts == {1_500_000_005_678, 10_000_000_001_234}


def test_a_token_2022_mint_may_have_metadata() -> None:
    plain = Mint(6, TOKEN_2022_PROGRAM)
    assert read_mint(TOKEN_2022_PROGRAM, PLAIN) == plain
    assert read_mint(TOKEN_2022_PROGRAM, extended((18, 64), (19, 200))) == plain
    assert read_mint(TOKEN_2022_PROGRAM, extended((18, 64), padding=12)) == plain


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 9, 10, 12, 14, 26, 999])
def test_any_other_extension_is_refused(kind: int) -> None:
    with pytest.raises(UnsupportedMintError, match=f"extension {kind} "):
        read_mint(TOKEN_2022_PROGRAM, extended((18, 64), (kind, 32)))


@pytest.mark.parametrize(
    ("owner", "data"),
    [
        (SYSTEM_PROGRAM, PLAIN),
        (TOKEN_PROGRAM, b""),
        (TOKEN_PROGRAM, PLAIN[:-1]),
        (TOKEN_PROGRAM, PLAIN[:45] + b"\0" + PLAIN[46:]),
        (TOKEN_PROGRAM, extended()),
        # A token account, and something between a mint and one.
        (TOKEN_2022_PROGRAM, extended(kind=2)),
        (TOKEN_2022_PROGRAM, PLAIN + b"\0"),
    ],
)
def test_what_is_no_mint_is_refused(owner: Pubkey, data: bytes) -> None:
    with pytest.raises(MalformedStateError):
        read_mint(owner, data)


def test_what_is_too_short_for_a_token_account_is_refused() -> None:
    with pytest.raises(MalformedStateError, match="164 bytes"):
        token_amount(bytes(164))
