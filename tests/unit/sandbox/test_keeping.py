"""A chain that is kept in a folder, and continues at the next start as if it had not ended."""

import asyncio
import resource
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from service.sandbox.chain import FIRST_SLOT, KEPT_BLOCKS, Timing
from service.sandbox.chain_file import ChainDataError, ChainFile
from service.sandbox.keeping import LOCK, LOG, ChainFolder, read_chain, running_url
from service.sandbox.node import Commitment
from service.sandbox.standalone import make_sandbox
from tests.support.clock import ManualClock
from tests.support.local_chain import PROGRAM_NAMES, LocalChain

_SLOT_S = Timing().slot_ms / 1000


class MovedClock(ManualClock):
    """A clock that moves while nothing runs."""

    def move(self, seconds: float) -> None:
        self._elapsed_s += seconds


class Kept:
    """A kept chain, and copies of its folder as a kill at this moment would leave it."""

    def __init__(self, root: Path) -> None:
        self.clock = MovedClock()
        self._root = root
        self._copies = 0
        self._folders: list[ChainFolder] = []
        self.local = self.open(root / "first")
        self.folder = self._folders[0]
        self.log = root / "first" / LOG

    def open(self, path: Path, seed: int = 1, longest_log: int = 1 << 30) -> LocalChain:
        folder = ChainFolder(path, self.clock, longest_log)
        self._folders.append(folder)
        return LocalChain(chain=folder.open(seed, Timing(), self.clock))

    def advance(self, slots: int) -> None:
        self.local.chain.advance(slots)
        self.clock.move(slots * _SLOT_S)

    def copy(self) -> Path:
        self._copies += 1
        path = self._root / str(self._copies)
        shutil.copytree(self._root / "first", path)
        return path

    def close(self) -> None:
        for folder in self._folders:
            folder.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.close()


def everything(local: LocalChain) -> list[Any]:
    """Return what a node says of the whole chain."""
    chain = local.chain
    blocks = chain.blocks_after(0, chain.tip.slot)
    signatures = [each.signature for block in blocks for each in block.landed]
    options = {"maxSupportedTransactionVersion": 1, "commitment": "confirmed"}
    keys = sorted(chain.accounts.all_at(chain.tip.slot), key=bytes)
    finals = [local.node.block(commitment) for commitment in Commitment]
    return [
        local.call("getGenesisHash"),
        [(each.slot, each.height, each.blockhash, each.parent_slot, each.time_s) for each in blocks],
        [local.call("getTransaction", each, options) for each in signatures],
        local.call("getSignaturesForAddress", str(local.wallet.pubkey())),
        [local.status(each) for each in signatures],
        [each.slot for each in finals],
        [[chain.accounts.at(key, block.slot) for key in keys] for block in finals],
        chain.place,
    ]


def trade(kept: Kept) -> None:
    """Let transactions of every program land and fail, with a fork and skipped slots in between."""
    local = kept.local
    for program in PROGRAM_NAMES:
        local.send(local.sell(program))
        local.send(local.sell(program, minimum_out=10**15))
        kept.advance(12)
    local.send(local.sell())
    kept.advance(3)
    local.chain.skip(4)
    local.chain.fork(5)
    kept.clock.move(4 * _SLOT_S)


@pytest.mark.parametrize("longest_log", [1 << 30, 0])
def test_it_continues_as_if_it_had_not_ended(kept: Kept, longest_log: int) -> None:
    """Also if the log is rewritten, at the start and in the middle."""
    trade(kept)
    kept.advance(2)
    before = everything(kept.local)
    assert len(before[2]) == 8
    assert {each["meta"]["err"] is None for each in before[2]} == {True, False}
    for _ in range(2):
        after = kept.open(kept.copy(), longest_log=longest_log)
        assert everything(after) == before
    # The accounts, too: the same transaction does the same.
    transaction = kept.local.sell()
    for local in (kept.local, after):
        local.send(transaction)
        local.chain.advance(40)
    assert everything(after) == everything(kept.local)


def test_a_fork_after_the_last_block_is_kept(kept: Kept) -> None:
    trade(kept)
    for longest_log in (1 << 30, 0):
        assert everything(kept.open(kept.copy(), longest_log=longest_log)) == everything(kept.local)


def test_a_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    clock = MovedClock()
    folder = ChainFolder(tmp_path, clock, 30_000)
    chain = folder.open(1, Timing(), clock)
    sizes = []
    for _ in range(30):
        chain.advance(500)
        asyncio.run(folder.settle())
        sizes.append((tmp_path / LOG).stat().st_size)
    assert len(chain.blocks_after(0, chain.tip.slot)) >= KEPT_BLOCKS
    assert max(sizes) < sizes[0] + 2 * KEPT_BLOCKS * 29
    folder.close()


def test_what_happens_while_the_log_is_rewritten_is_kept(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    trade(kept)
    folder = kept.folder
    folder._rewrite_at = 0
    left = 3

    async def in_a_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal left
        done = call(*arguments)
        if left:
            left -= 1
            kept.local.send(kept.local.sell(minimum_out=left))
            kept.advance(1)
        return done

    monkeypatch.setattr(asyncio, "to_thread", in_a_thread)
    before = kept.log.stat().st_ino
    asyncio.run(folder.settle())
    assert left == 0
    kept.advance(2)
    assert kept.log.stat().st_ino != before
    assert everything(kept.open(kept.copy())) == everything(kept.local)


def test_a_log_that_cannot_be_rewritten_is_used_on(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    trade(kept)
    kept.folder._rewrite_at = 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        asyncio.run(kept.folder.settle())
        asyncio.run(kept.folder.settle())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caplog.text.count("the local chain's log stays longer than it need be: [Errno 27]") == 1
    kept.advance(2)
    assert sorted(each.name for each in kept.copy().iterdir()) == [LOCK, LOG]
    assert everything(kept.open(kept.copy())) == everything(kept.local)


async def test_slots_by_request_shorten_the_log_too(tmp_path: Path) -> None:
    """As with ``--slot-ms 0``, with which no others pass."""
    clock = MovedClock()
    folder = ChainFolder(tmp_path, clock, 30_000)
    server = TestServer(make_sandbox(1, Timing(), 1, clock, folder).application())
    before = (tmp_path / LOG).stat().st_ino
    async with TestClient(server) as client:
        answer = await client.post("/sandbox/advance", json={"slots": 2_000})
        assert answer.status == 200, await answer.text()
    assert (tmp_path / LOG).stat().st_ino != before
    folder.close()


def test_the_slots_of_a_pause_pass_as_many_as_end_what_was_in_flight(kept: Kept) -> None:
    kept.advance(100)
    tip = kept.local.chain.tip
    unsent = kept.local.sell()
    kept.clock.move(10)
    after = kept.open(kept.copy())
    assert after.chain.tip.slot == tip.slot + 45
    after.send(unsent)
    after.chain.advance()
    assert after.status(str(unsent.signatures[0]))["err"] is None
    kept.clock.move(1_000_000)
    after = kept.open(kept.copy())
    assert after.chain.finalized.height > tip.height + 151
    assert after.chain.first.slot == FIRST_SLOT
    # The clock's time again, since the slots cannot be.
    assert abs(after.chain.tip.time_s * 1000 - kept.clock.time_ms()) < 1_000


def test_a_copy_is_read_while_the_chain_goes_on(kept: Kept) -> None:
    trade(kept)
    kept.advance(1)
    path = kept.copy()
    before = (path / LOG).read_bytes()
    copy = read_chain(path, Timing(), kept.clock)
    assert copy is not None
    assert everything(LocalChain(chain=copy)) == everything(kept.local)
    copy.advance(10)
    assert (path / LOG).read_bytes() == before
    assert read_chain(path / "nothing", Timing(), kept.clock) is None


def test_one_process_at_a_time_which_says_where_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovedClock()
    assert running_url(tmp_path) is None
    folder = ChainFolder(tmp_path, clock)
    assert running_url(tmp_path) is None
    folder.note("http://127.0.0.1:1")
    assert running_url(tmp_path) == "http://127.0.0.1:1"
    monkeypatch.setattr(time, "sleep", clock.move)
    with pytest.raises(ChainDataError, match="in use by another process"):
        ChainFolder(tmp_path, clock)
    folder.close()
    assert running_url(tmp_path) is None
    ChainFolder(tmp_path, clock).close()


def test_another_chain_than_the_folder_s_is_refused(kept: Kept) -> None:
    with pytest.raises(ChainDataError, match="of a chain with seed 1, whose blocks are final after 32 slots"):
        kept.open(kept.copy(), seed=2)


def test_a_log_of_another_version_is_refused(kept: Kept) -> None:
    file = ChainFile(kept.log, kept.log.stat().st_size)
    file.append(b"?" + zlib.compress(b"{}"))
    file.close()
    with pytest.raises(ChainDataError, match=r"chain\.log is not of this version: delete its folder"):
        kept.open(kept.copy())


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reason = r"the local chain cannot be kept in .*/file/chain: Not a directory: set another DATA_DIR"
    with pytest.raises(ChainDataError, match=reason):
        ChainFolder(tmp_path / "file" / "chain", ManualClock())


def test_a_block_that_cannot_be_written_does_not_exist_and_its_transactions_wait(kept: Kept) -> None:
    kept.advance(3)
    kept.local.send(kept.local.sell())
    before = everything(kept.local)
    size = (kept.copy() / LOG).stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            kept.local.chain.advance()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert everything(kept.local)[:-1] == before[:-1]
    kept.advance(1)
    assert len(kept.local.chain.tip.landed) == 1
    assert everything(kept.open(kept.copy())) == everything(kept.local)
