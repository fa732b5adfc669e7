"""Keeps a chain in a folder, and continues it at the next start: ``chain.log``, and ``chain.lock`` beside it.

The log has the accounts at the last final block when it was last rewritten, the blocks that nodes still have,
and what happened since. Not kept: transactions that have not landed, which whoever sent them sends again, the
armed faults, and accounts as they were before that final block.
"""

import asyncio
import fcntl
import itertools
import json
import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.clock import Clock
from service.sandbox.blocks import Block
from service.sandbox.chain import SandboxChain, Timing
from service.sandbox.chain_file import ChainDataError, ChainFile, read_records, sync_folder
from service.sandbox.genesis import genesis_of
from service.sandbox.machine import BROUGHT_ALONG
from service.sandbox.mempool import MAX_AGE
from service.sandbox.records import (
    Accounts,
    ChainOrigin,
    KeptAccounts,
    KeptBlock,
    Place,
    Record,
    decode,
    encode,
)

log = logging.getLogger(__name__)

LOG, LOCK = "chain.log", "chain.lock"

_LONGEST_LOG = 64 * 1024 * 1024
"""What may be appended to a log, in bytes, before it is rewritten."""

_SHORT_AT_START = 4
_MOST_UNSYNCED = 32
_LOCK_PATIENCE_S, _LOOK_AGAIN_S = 2.0, 0.02
_MARGIN_BLOCKS = 50


def new_chain(seed: int, timing: Timing, clock: Clock) -> tuple[SandboxChain, ChainOrigin]:
    """Return a chain that begins now, of which nothing is kept."""
    now_s = clock.time_ms() // 1000
    origin = ChainOrigin(seed, now_s, clock.new_instance_id(), timing.finalized_after)
    return _begun(origin, timing, clock), origin


def read_chain(folder: Path, timing: Timing, clock: Clock) -> SandboxChain | None:
    """Return a copy of a kept chain, as it is at this time; None: there is none. Nothing is written.

    Raises:
        ChainDataError: It is damaged.
    """
    path = folder / LOG
    if not path.exists():
        return None
    chain = _restored(path, read_records(path)[0], timing, clock)[0]
    _catch_up(chain, clock)
    return chain


def running_url(folder: Path) -> str | None:
    """Return where the process answers that runs a folder's chain; None: none runs it, or not yet."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _url_in(file.read())
    return None


class ChainFolder:
    """The folder of a chain that this process continues; no other process can while it is open.

    Args:
        folder: The folder; it is made if there is none.
        clock: Measures how long the folder is waited for.
        longest_log: What may be appended to the log before it is rewritten.

    Raises:
        ChainDataError: Another process uses it, or it cannot be written.
    """

    def __init__(self, folder: Path, clock: Clock, longest_log: int = _LONGEST_LOG) -> None:
        self._path = folder / LOG
        self._longest_log = longest_log
        self._file: ChainFile | None = None
        self._chain: SandboxChain | None = None
        self._origin: ChainOrigin | None = None
        self._rewrite_at = 0
        self._unsynced_blocks = 0
        self._while_rewritten: list[bytes] | None = None
        # Both the slots and a request for slots settle.
        self._settling = asyncio.Lock()
        with _naming(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._lock = os.fdopen(lock, "r+")
            try:
                _lock(lock, folder, clock)
                self.note(None)
            except BaseException:
                self._lock.close()
                raise

    def note(self, url: str | None) -> None:
        """Let other processes know where the chain answers."""
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(json.dumps({"url": url}))
        self._lock.flush()

    def open(self, seed: int, timing: Timing, clock: Clock) -> SandboxChain:
        """Return the folder's chain, or a new one; from now on it is kept.

        Raises:
            ChainDataError: It is damaged, was begun with other values, or cannot be written.
        """
        with _naming(self._path.parent):
            return self._open(seed, timing, clock)

    def _open(self, seed: int, timing: Timing, clock: Clock) -> SandboxChain:
        if self._path.exists():
            records, end = read_records(self._path)
            chain, origin = _restored(self._path, records, timing, clock)
            wanted = ChainOrigin(seed, origin.time_s, origin.start, timing.finalized_after)
            if origin != wanted:
                raise ChainDataError(
                    f"{self._path} is of a chain with seed {origin.seed}, whose blocks are final after"
                    f" {origin.finalized_after} slots: start it with these, or use another folder"
                )
            log.info("the local chain continues at slot %d", chain.tip.slot + 1)
        else:
            (chain, origin), end = new_chain(seed, timing, clock), 0
        self._chain, self._origin = chain, origin
        if end and end <= self._longest_log // _SHORT_AT_START:
            self._use(ChainFile(self._path, end))
        else:
            new = ChainFile.beside(self._path)
            new.append_all(map(encode, _snapshot(chain, origin)))
            new.take_place(self._path)
            sync_folder(self._path.parent)
            self._use(new)
        chain.keeper = self
        _catch_up(chain, clock)
        return chain

    def add_block(self, block: Block, accounts: Accounts) -> None:
        """Keep the next block, and the accounts that it wrote.

        Raises:
            OSError: It is not kept.
        """
        self._append(_kept(block, accounts) if block.landed else KeptBlock(block.slot, block.time_s))
        self._unsynced_blocks += _MOST_UNSYNCED if block.landed else 1

    def add_place(self, place: Place) -> None:
        """Keep where a fork left the chain."""
        self._append(place)
        self._unsynced_blocks += _MOST_UNSYNCED

    async def settle(self) -> None:
        """Return when what was kept outlives the machine, except for the last empty blocks."""
        async with self._settling:
            if self._file is None:
                return
            if self._unsynced_blocks >= _MOST_UNSYNCED:
                written = self._unsynced_blocks
                await asyncio.to_thread(self._file.sync)
                self._unsynced_blocks -= written
            if self._file.size > self._rewrite_at:
                try:
                    await self._rewrite(self._file)
                except OSError as error:
                    log.warning("the local chain's log stays longer than it need be: %s", error)
                    self._rewrite_at = self._file.size + self._longest_log // _SHORT_AT_START

    def close(self) -> None:
        """Keep no more, and leave the folder to other processes; a second call does nothing."""
        if self._file is not None:
            self._file.sync()
            self._file.close()
            self._file = None
        if not self._lock.closed:
            self.note(None)
            self._lock.close()

    def _append(self, record: Record) -> None:
        if self._file is None:
            raise OSError("the chain's folder is closed")
        body = encode(record)
        self._file.append(body)
        if self._while_rewritten is not None:
            self._while_rewritten.append(body)

    async def _rewrite(self, old: ChainFile) -> None:
        """Write a shorter log in a thread, and use it; what happens meanwhile is written into both."""
        if self._chain is None or self._origin is None:
            raise AssertionError("it is rewritten once it is open")
        new = ChainFile.beside(self._path)
        try:
            self._while_rewritten = []
            await asyncio.to_thread(new.append_all, map(encode, _snapshot(self._chain, self._origin)))
            while self._while_rewritten:
                bodies, self._while_rewritten = self._while_rewritten, []
                await asyncio.to_thread(new.append_all, bodies)
            new.take_place(self._path)
        except BaseException:
            new.discard()
            raise
        finally:
            self._while_rewritten = None
        old.close()
        self._use(new)
        await asyncio.to_thread(sync_folder, self._path.parent)

    def _use(self, file: ChainFile) -> None:
        self._file = file
        self._rewrite_at = file.size + self._longest_log


def _snapshot(chain: SandboxChain, origin: ChainOrigin) -> Iterator[Record]:
    """Return the records that make a chain as it is now; what they hold of it is read at once."""
    final = chain.finalized.slot
    accounts = chain.accounts.all_at(final)
    begun: list[Record] = [
        origin,
        KeptAccounts({key: account for key, account in accounts.items() if key not in BROUGHT_ALONG}),
    ]
    blocks = chain.blocks_after(0, chain.tip.slot)
    written = {
        block.slot: {key: chain.accounts.at(key, block.slot) for key in block.changed}
        for block in chain.blocks_after(final, chain.tip.slot)
    }
    kept = (
        _kept(block, written.get(block.slot, {}))
        if block.landed or number == 0
        else KeptBlock(block.slot, block.time_s)
        for number, block in enumerate(blocks)
    )
    return itertools.chain(begun, kept, [chain.place])


def _kept(block: Block, accounts: Accounts) -> KeptBlock:
    return KeptBlock(block.slot, block.time_s, block.height, block.parent_slot, block.landed, accounts)


def _restored(
    path: Path, bodies: list[bytes], timing: Timing, clock: Clock
) -> tuple[SandboxChain, ChainOrigin]:
    """Return the chain of a log's records.

    Raises:
        ChainDataError: They are not those of a chain.
    """
    records = map(decode, bodies)
    try:
        origin = next(records, None)
        if isinstance(origin, ChainOrigin):
            chain = _begun(origin, timing, clock)
            chain.restore(records)
            return chain, origin
        cause = None
    except (LookupError, TypeError, ValueError, struct.error, zlib.error) as error:
        cause = error
    # Its checksums are right.
    raise ChainDataError(f"{path} is not of this version: delete its folder to begin a new chain") from cause


def _begun(origin: ChainOrigin, timing: Timing, clock: Clock) -> SandboxChain:
    genesis = genesis_of(origin.seed, origin.time_s, MAINNET, clock, origin.start)
    return SandboxChain(genesis, AmmPrograms(MAINNET), timing)


def _catch_up(chain: SandboxChain, clock: Clock) -> None:
    """Let the slots pass that would have passed, as many as end whatever was in flight.

    More would only make the history that nodes keep begin later, and what is to be proved would be gone.
    """
    timing = chain.timing
    # A block's time is rounded down: the whole second may have passed before the chain ended.
    ended_ms = (chain.tip.time_s + 1) * 1000 + (chain.highest_slot - chain.tip.slot) * timing.slot_ms
    passed = (clock.time_ms() - ended_ms) // timing.slot_ms
    slots = max(0, min(passed, MAX_AGE + timing.finalized_after + _MARGIN_BLOCKS))
    chain.begin(clock.time_ms() - slots * timing.slot_ms)
    chain.advance(slots)


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Say which folder it was that cannot be used.

    Raises:
        ChainDataError: In the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        cure = "set another DATA_DIR, or --data"
        raise ChainDataError(
            f"the local chain cannot be kept in {folder}: {error.strerror}: {cure}"
        ) from error


def _lock(descriptor: int, folder: Path, clock: Clock) -> None:
    # Others look for a moment whether it is locked.
    give_up = clock.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() > give_up:
                raise ChainDataError(f"the chain in {folder} is in use by another process") from None
            time.sleep(_LOOK_AGAIN_S)
        else:
            return


def _url_in(note: str) -> str | None:
    try:
        url = json.loads(note)["url"]
    except ValueError:  # read while it was written
        return None
    return None if url is None else str(url)
