"""One read of accounts: all of one slot, with that slot's clock, or refused.

A node answers ``getMultipleAccounts`` from one bank, so a pool whose accounts are in one answer is not torn.
Some providers answer from stores that are not banks, or split a call. So each call asks for the clock sysvar
first and last: both must be equal, and of the slot that the answer says that it is of.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from solders.pubkey import Pubkey

from service.chains.solana.rpc.answers import Answer, NotAnAnswerError
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.venue import VenueUnavailableError
from service.domain.amounts import U64_MAX

CLOCK_SYSVAR = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")

MOST_KEYS = 98
"""How many accounts one read can have: 100 less the clock, twice."""

# solana-program sysvar/clock: slot, epoch_start_timestamp, epoch, leader_schedule_epoch, unix_timestamp.
_CLOCK = struct.Struct("<QqQQq")


class ClockSysvar(NamedTuple):
    """The chain's clock in one slot; the time is Unix time in seconds."""

    slot: int
    epoch: int
    timestamp_s: int


class OwnedData(NamedTuple):
    """An account: the program that owns it, its data and its lamports."""

    owner: Pubkey
    data: bytes
    lamports: int = 0


@dataclass(frozen=True, slots=True)
class AccountsRead:
    """Accounts of one slot; those that do not exist are left out."""

    clock: ClockSysvar
    accounts: Mapping[Pubkey, OwnedData]

    @property
    def slot(self) -> int:
        """The slot."""
        return self.clock.slot


async def read_accounts(
    endpoints: Endpoints,
    keys: Sequence[Pubkey],
    *,
    min_slot: int | None = None,
    commitment: str = "processed",
) -> AccountsRead:
    """Read accounts as of the newest slot of a commitment.

    Args:
        endpoints: Where to read.
        keys: At most ``MOST_KEYS`` addresses.
        min_slot: An older slot is not accepted.
        commitment: How sure the slot's block must be.

    Raises:
        VenueUnavailableError: No endpoint answered, or only from an older slot.
        RpcError: The call was refused.
    """
    if len(keys) > MOST_KEYS:
        raise ValueError(f"{len(keys)} accounts, one read can have {MOST_KEYS}")
    config: dict[str, Any] = {"encoding": "base64", "commitment": commitment}
    if min_slot is not None:
        config["minContextSlot"] = min_slot
    asked = (CLOCK_SYSVAR, *keys, CLOCK_SYSVAR)

    def parse(answer: Answer) -> AccountsRead:
        return _parse(answer, asked)

    answer = await endpoints.read(
        "getMultipleAccounts", [[str(key) for key in asked], config], min_slot=min_slot, parse=parse
    )
    read: AccountsRead = answer.result
    return read


async def read_hinted_accounts(
    endpoints: Endpoints, keys: Sequence[Pubkey], hinted_slot: int, min_slot: int
) -> AccountsRead:
    """Read accounts from a slot on that was heard of; if no endpoint gets there, as of an older one.

    A WebSocket's node may stay ahead of all endpoints. Then older state is better than none.

    Args:
        endpoints: Where to read.
        keys: At most ``MOST_KEYS`` addresses.
        hinted_slot: The slot that was heard of.
        min_slot: An older slot is not accepted; 0: any is.

    Raises:
        VenueUnavailableError: No endpoint answered, or only from an older slot.
        RpcError: The call was refused.
    """
    if hinted_slot > min_slot:
        with suppress(VenueUnavailableError):
            return await read_accounts(endpoints, keys, min_slot=hinted_slot)
    return await read_accounts(endpoints, keys, min_slot=min_slot or None)


def _parse(answer: Answer, asked: Sequence[Pubkey]) -> AccountsRead:
    values = answer.result
    if not isinstance(values, list) or len(values) != len(asked):
        raise NotAnAnswerError("it did not answer with all accounts")
    found = [_account(value) for value in values]
    first, last = _clock(found[0]), _clock(found[-1])
    if first != last or first.slot != answer.slot:
        raise NotAnAnswerError(
            f"its accounts are of different slots ({first.slot}, {last.slot}, {answer.slot})"
        )
    accounts = {key: account for key, account in zip(asked, found, strict=True) if account is not None}
    return AccountsRead(first, accounts)


def _account(value: Any) -> OwnedData | None:
    match value:
        case None:
            return None
        case {"owner": str(owner), "data": [str(text), "base64"], "lamports": int(lamports)} if (
            0 <= lamports <= U64_MAX
        ):
            try:
                data = base64.b64decode(text, validate=True)
                return OwnedData(Pubkey.from_string(owner), data, lamports)
            except ValueError:
                pass
    raise NotAnAnswerError("it answered with what is no account")


def _clock(account: OwnedData | None) -> ClockSysvar:
    if account is None or len(account.data) != _CLOCK.size:
        raise NotAnAnswerError("it answered without the chain's clock")
    slot, _began, epoch, _schedule, timestamp_s = _CLOCK.unpack(account.data)
    return ClockSysvar(slot, epoch, timestamp_s)
