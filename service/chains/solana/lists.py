"""Reads the lists of pools and tokens that may be traded, in TOML."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.programs.registry import ProgramIds
from service.domain.tokens import Token, is_mint, is_symbol

_MOST_DECIMALS = 18
_LARGEST_FILE = 1_000_000


class InvalidListError(Exception):
    """The file is no such list; the message says why."""


def read_pools(file: Path, ids: ProgramIds) -> Sequence[ListedPool]:
    """Return the pools of a file: ``[[pool]]`` with ``program``, such as ``raydium_cpmm``, and ``address``.

    Raises:
        InvalidListError: It cannot be read, or has something else or nothing.
    """
    programs = {name: getattr(ids, name) for name in ids.__slots__}
    pools: dict[str, ListedPool] = {}
    for place, entry in enumerate(_entries(file, "pool", {"program": str, "address": str}), 1):
        program, address = programs.get(entry["program"]), entry["address"]
        if program is None:
            raise InvalidListError(f"{file}: pool {place}: the program must be one of {', '.join(programs)}")
        if not is_mint(address):
            raise InvalidListError(f"{file}: pool {place}: the address is not 32 bytes in base58")
        if address in pools:
            raise InvalidListError(f"{file}: pool {place}: {address} is there twice")
        pools[address] = ListedPool(program, Pubkey.from_string(address))
    return list(pools.values())


def read_tokens(file: Path) -> Sequence[Token]:
    """Return the tokens of a file: ``[[token]]`` with ``symbol``, ``mint`` and ``decimals``.

    Raises:
        InvalidListError: It cannot be read, or has something else or nothing.
    """
    tokens: list[Token] = []
    form = {"symbol": str, "mint": str, "decimals": int}
    for place, entry in enumerate(_entries(file, "token", form), 1):
        token = Token(**entry)
        if not is_symbol(token.symbol):
            raise InvalidListError(f"{file}: token {place}: the symbol must be 1 to 16 letters and digits")
        if not is_mint(token.mint):
            raise InvalidListError(f"{file}: token {place}: the mint is not 32 bytes in base58")
        if not 0 <= token.decimals <= _MOST_DECIMALS:
            raise InvalidListError(f"{file}: token {place}: decimals must be from 0 to {_MOST_DECIMALS}")
        if any(token.mint == other.mint or token.symbol.lower() == other.symbol.lower() for other in tokens):
            raise InvalidListError(f"{file}: token {place}: its symbol or mint is there twice")
        tokens.append(token)
    return tokens


def _entries(file: Path, name: str, form: Mapping[str, type]) -> Sequence[Mapping[str, Any]]:
    """Return the tables of a file's only array, each with exactly these keys.

    Raises:
        InvalidListError: The file has another form.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise InvalidListError(f"{file}: has more than {_LARGEST_FILE} bytes")
        table = tomllib.loads(text.decode())
    except OSError as error:
        raise InvalidListError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidListError(f"{file}: {error}") from None
    entries = table.get(name)
    if set(table) != {name} or not isinstance(entries, list) or not entries:
        raise InvalidListError(f"{file}: must have [[{name}]], and nothing else")
    for place, entry in enumerate(entries, 1):
        found = {key: type(value) for key, value in entry.items()} if isinstance(entry, dict) else None
        if found != dict(form):
            raise InvalidListError(f"{file}: {name} {place}: must have {', '.join(form)}, and nothing else")
    return entries
