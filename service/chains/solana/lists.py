"""Reads the lists of pools and tokens that may be traded, in TOML, and adds to the list of pools."""

import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from solders.pubkey import Pubkey

from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.programs.registry import ProgramIds
from service.domain.tokens import Token, is_mint, is_symbol

if sys.platform != "win32":
    import fcntl

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


def add_pools(file: Path, ids: ProgramIds, pools: Sequence[tuple[str, str]]) -> int:
    """Add pools to a file, which is made if it does not exist; whatever is in it stays.

    The file is replaced as a whole, by one that can be read: nobody ever sees a part of it.

    Args:
        file: The list; of a symbolic link, what it points to.
        ids: The cluster's programs.
        pools: The name of the program, and the address, of each.

    Returns:
        How many were not there yet.

    Raises:
        InvalidListError: The file is no such list, or cannot be written.
    """
    try:
        file = file.resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.parent):
            before = file.read_text("utf-8") if file.exists() else ""
            known = {str(each.address) for each in read_pools(file, ids)} if _says_anything(before) else set()
            new = [each for each in pools if each[1] not in known]
            if new:
                _replace(file, ids, before, new)
            return len(new)
    except OSError as error:
        raise InvalidListError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidListError(f"{file}: is not UTF-8") from None


def _says_anything(text: str) -> bool:
    """Whether a file has more than comments; what cannot be parsed has."""
    try:
        return bool(tomllib.loads(text))
    except (ValueError, RecursionError):
        return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change a list in a folder; the lock ends with the process."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(file: Path, ids: ProgramIds, before: str, pools: Sequence[tuple[str, str]]) -> None:
    parts = [before.rstrip("\n"), *(f'[[pool]]\nprogram = "{name}"\naddress = "{at}"' for name, at in pools)]
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    made = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write("\n\n".join(filter(None, parts)) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        read_pools(made, ids)
        made.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
        made.replace(file)
    finally:
        made.unlink(missing_ok=True)


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
