"""Which answers are a read of accounts."""

import base64
import struct
from typing import Any

import pytest
from solders.pubkey import Pubkey

from service.chains.solana.feed.accounts import CLOCK_SYSVAR, MOST_KEYS, ClockSysvar, _parse, read_accounts
from service.chains.solana.rpc.answers import Answer, NotAnAnswerError
from service.clock import Clock
from tests.support.served_chain import served_chain
from tests.support.solana_pools import made_up

OWNER, KEY, OTHER = made_up("owner"), made_up("key"), made_up("other")


def account(data: bytes = b"data", owner: Pubkey = OWNER) -> dict[str, Any]:
    return {"owner": str(owner), "data": [base64.b64encode(data).decode(), "base64"], "lamports": 1}


def clock(slot: int = 5) -> dict[str, Any]:
    return account(struct.pack("<QqQQq", slot, 0, 2, 3, 1_700))


def read(*values: Any, slot: int = 5) -> Any:
    return _parse(Answer(list(values), slot, "a.example"), (CLOCK_SYSVAR, KEY, OTHER, CLOCK_SYSVAR))


def test_accounts_of_one_slot_are_a_read_with_the_chains_time() -> None:
    found = read(clock(), account(), None, clock())
    assert found.clock == ClockSysvar(5, 2, 1_700)
    assert found.accounts[KEY] == (OWNER, b"data", 1)
    assert OTHER not in found.accounts


@pytest.mark.parametrize(
    "values",
    [
        (clock(), account(), account(), clock(4)),
        (clock(4), account(), account(), clock(4)),
        (clock(6), account(), account(), clock(6)),
        (clock(), account(), account()),
        (clock(), account(), account(), account(), clock()),
        (clock(), account(), account(), None),
        (None, account(), account(), clock()),
        (account(), account(), account(), account()),
        (clock(), {}, account(), clock()),
        (clock(), "account", account(), clock()),
        (clock(), {**account(), "owner": "nobody"}, account(), clock()),
        (clock(), {**account(), "data": ["!", "base64"]}, account(), clock()),
        (clock(), {**account(), "data": ["", "base58"]}, account(), clock()),
        (clock(), {**account(), "data": {"parsed": 1}}, account(), clock()),
        (clock(), {**account(), "lamports": "1"}, account(), clock()),
    ],
)
def test_anything_else_is_none(values: tuple[Any, ...]) -> None:
    with pytest.raises(NotAnAnswerError):
        read(*values)


async def test_one_read_holds_as_many_accounts_as_a_call_can() -> None:
    async with served_chain(clock=Clock(0)) as served:
        keys = [made_up(str(number)) for number in range(MOST_KEYS)]
        found = await read_accounts(served.endpoints, keys)
        assert (found.slot, set(found.accounts)) == (1_000, {CLOCK_SYSVAR})
        with pytest.raises(ValueError, match="99 accounts"):
            await read_accounts(served.endpoints, [*keys, made_up("one more")])


async def test_a_read_may_be_of_a_block_that_is_confirmed() -> None:
    async with served_chain(clock=Clock(0)) as served:
        served.chain.advance(10)
        assert (await read_accounts(served.endpoints, [KEY], commitment="confirmed")).slot == 1_008
        assert (await read_accounts(served.endpoints, [KEY])).slot == 1_010
