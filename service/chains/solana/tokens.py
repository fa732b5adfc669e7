"""Accounts of the token programs: a token account's amount, and mints that are refused.

Layouts: solana-program/token interface/src/state.rs, and token-2022's interface/src/extension/mod.rs: after
the base, padded to the length of a token account, stand the account's type and its extensions (type u16,
length u16, value).
"""

import struct
from dataclasses import dataclass

from solders.pubkey import Pubkey

from service.amm.errors import MalformedStateError
from service.chains.solana.addresses import TOKEN_2022_PROGRAM, TOKEN_PROGRAM

TOKEN_ACCOUNT_BYTES = 165
_MINT_BYTES = 82
_MINT_TYPE = 1
_DECIMALS_AT, _INITIALIZED_AT = 44, 45
_AMOUNT = struct.Struct("<64xQ")
_EXTENSION = struct.Struct("<HH")

_PADDING, _METADATA_POINTER, _TOKEN_METADATA = 0, 18, 19
_HARMLESS = frozenset({_METADATA_POINTER, _TOKEN_METADATA})


class UnsupportedMintError(Exception):
    """A token that cannot be traded exactly: its mint has an extension other than metadata."""


@dataclass(frozen=True, slots=True)
class Mint:
    """A token as its mint's account describes it."""

    decimals: int
    token_program: Pubkey


def token_amount(data: bytes) -> int:
    """Return the balance of a token account, in base units.

    Raises:
        MalformedStateError: Too short to be one.
    """
    if len(data) < TOKEN_ACCOUNT_BYTES:
        raise MalformedStateError(f"token account: {len(data)} bytes")
    amount: int = _AMOUNT.unpack_from(data)[0]
    return amount


def read_mint(owner: Pubkey, data: bytes) -> Mint:
    """Return a mint from its account.

    Args:
        owner: The program that owns the account.
        data: The account's data.

    Raises:
        MalformedStateError: The account is not an initialized mint.
        UnsupportedMintError: A Token-2022 mint with an extension that may change what a swap pays.
    """
    if owner not in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM):
        raise MalformedStateError(f"a mint cannot belong to {owner}")
    if len(data) < _MINT_BYTES or data[_INITIALIZED_AT] != 1:
        raise MalformedStateError("not an initialized mint")
    if len(data) > _MINT_BYTES:
        _check_extensions(owner, data)
    return Mint(data[_DECIMALS_AT], owner)


def _check_extensions(owner: Pubkey, data: bytes) -> None:
    at = TOKEN_ACCOUNT_BYTES + 1
    if owner != TOKEN_2022_PROGRAM or len(data) < at or data[TOKEN_ACCOUNT_BYTES] != _MINT_TYPE:
        raise MalformedStateError(f"not a mint: {len(data)} bytes")
    while at + _EXTENSION.size <= len(data):
        kind, length = _EXTENSION.unpack_from(data, at)
        if kind == _PADDING:
            return
        if kind not in _HARMLESS:
            raise UnsupportedMintError(f"Token-2022 extension {kind} is not supported")
        at += _EXTENSION.size + length
