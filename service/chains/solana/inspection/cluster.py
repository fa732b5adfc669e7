"""Checks of the cluster: its programs, its clock, Alpenglow, and whether the endpoints are enough."""

import base64
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from solders.pubkey import Pubkey

from service.chains.inspection import Check
from service.chains.solana.feed.accounts import read_accounts
from service.chains.solana.feed.pools import program_name
from service.chains.solana.programs.registry import ProgramIds
from service.chains.solana.proof import ENDPOINTS_NEEDED
from service.chains.solana.rpc.answers import Answer, NotAnAnswerError
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.rpc.urls import RpcUrl
from service.chains.venue import VenueUnavailableError
from service.clock import Clock

UPGRADEABLE_LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")

# solana-program bpf_loader_upgradeable: a program names the account of its code, which begins with the slot
# of its last deployment. Both begin with a number of four bytes for their kind.
_PROGRAM = struct.Struct("<I32s")
_PROGRAM_KIND = 2
_CODE = struct.Struct("<IQ")
_CODE_KIND = 3
_LARGEST_CLOCK_DIFFERENCE_S = 10
# Beside the pools: looks at the endpoints, blockhashes, and what is in flight, every two slots.
_OTHER_CALLS_PER_SECOND = 4


class _Program(NamedTuple):
    """A program's account: the program that owns it, its data, and whether it can be executed."""

    owner: Pubkey
    data: bytes
    executable: bool


async def check_programs(
    endpoints: Endpoints, ids: ProgramIds, used: Collection[Pubkey], *, are_doubles: bool
) -> list[Check]:
    """Return whether the four AMM programs are deployed where this service looks for them.

    Args:
        endpoints: Where to read.
        ids: The programs' addresses.
        used: Those of the listed pools.
        are_doubles: Whether they have no code, as in the sandbox.

    Raises:
        RpcError: The call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    programs = [getattr(ids, name) for name in ids.__slots__]
    found = await _accounts(endpoints, programs)
    code_at = {
        program: Pubkey.from_bytes(_PROGRAM.unpack(each.data)[1])
        for program, each in found.items()
        if each.owner == UPGRADEABLE_LOADER
        and len(each.data) == _PROGRAM.size
        and _PROGRAM.unpack(each.data)[0] == _PROGRAM_KIND
    }
    code = await _accounts(endpoints, list(code_at.values()), {"offset": 0, "length": _CODE.size})
    checks = []
    for program in programs:
        name = program_name(program, ids)
        problem, slot = None, None
        if program not in found or not found[program].executable:
            problem = f"{program} is no program on this cluster"
        elif program in code_at and not are_doubles:
            slot = _deployed_in(code.get(code_at[program]))
            problem = None if slot is not None else f"{program} has no code: it was closed"
        if problem is None:
            told = "is a double" if are_doubles else "is deployed"
            since = "" if slot is None else f", last in slot {slot}"
            checks.append(Check.ok("program", name, f"{program} {told}{since}"))
        elif program in used:
            remedy = "take its pools out of SOLANA_POOLS: none of them can be traded here"
            checks.append(Check.failed("program", name, problem, remedy))
        else:
            checks.append(Check.warning("program", name, problem, "do not list pools of it"))
    return checks


async def check_clock(endpoints: Endpoints, clock: Clock) -> Check:
    """Return how far this machine's clock is from the chain's.

    Raises:
        RpcError: The call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    read = await read_accounts(endpoints, [])
    ahead_s = clock.time_ms() // 1000 - read.clock.timestamp_s
    told = f"this machine's clock is {abs(ahead_s)} s {'behind' if ahead_s < 0 else 'ahead of'} the chain's"
    if abs(ahead_s) <= _LARGEST_CLOCK_DIFFERENCE_S:
        return Check.ok("clock", "", told)
    remedy = "set this machine's clock, by NTP; if it is right, the endpoints are behind"
    return Check.warning("clock", "", told, remedy)


async def check_alpenglow(endpoints: Endpoints) -> Check:
    """Return whether the cluster has migrated to Alpenglow, with which this service was not tried."""
    try:
        answer = await endpoints.read("getAgGenesisCert", [])
    except (RpcError, VenueUnavailableError) as error:
        # Older nodes do not know the method, and some providers refuse it, each in a way of its own.
        return Check.ok("alpenglow", "", f"no node says whether the cluster has migrated to it ({error})")
    if answer.result is None:
        return Check.ok("alpenglow", "", "the cluster has not migrated to it")
    remedy = "begin with small amounts: this service was not tried with it"
    return Check.warning("alpenglow", "", "the cluster has migrated to it", remedy)


def check_enough(urls: Sequence[RpcUrl], usable: int, proving: int, *, real_money: bool) -> Check:
    """Return whether the endpoints are enough to read, and to prove that a transaction has expired.

    Args:
        urls: All endpoints.
        usable: How many can be read from.
        proving: How many have the history that the proof needs.
        real_money: Whether to expect more than one.
    """
    readers = [each for each in urls if each.reads]
    if not usable:
        remedy = "see the endpoints above; without one there are neither quotes nor orders"
        return Check.failed("endpoints", "", "none can be read from", remedy)
    needed = min(ENDPOINTS_NEEDED, len(readers))
    if proving < needed:
        found = f"{proving} of {len(readers)} could prove that a transaction has expired, and {needed} must"
        remedy = "see their history and lag above; until then such an order stays submitted"
        return Check.failed("endpoints", "", found, remedy)
    found = f"{usable} to read from, {proving} to prove an expiry"
    if len(readers) == 1:
        found = "there is only one to read from, so a proof of expiry takes two looks, 64 slots apart"
    elif len({each.host for each in readers}) == 1:
        found = f"{len(readers)} of one host: they may be the same nodes, which prove no more than one does"
    elif not real_money or usable > 1:
        return Check.ok("endpoints", "", found)
    if real_money:
        return Check.warning("endpoints", "", found, "add one of another provider to SOLANA_RPC_URLS")
    return Check.ok("endpoints", "", found)


def check_budget(urls: Sequence[RpcUrl], reads_per_poll: int, poll_ms: int) -> Check:
    """Return whether the configured calls per second are enough for the pools and for orders.

    Args:
        urls: All endpoints.
        reads_per_poll: How many calls read all pools.
        poll_ms: How often they are read.
    """
    needed = -(-reads_per_poll * 1000 // poll_ms) + _OTHER_CALLS_PER_SECOND
    told = f"the pools and orders in flight take about {needed} calls per second"
    rates = [each.rps for each in urls if each.reads]
    if None in rates:
        return Check.ok("budget", "", f"{told}; not all endpoints have a limit")
    allowed = sum(rate or 0 for rate in rates)
    if allowed < needed:
        remedy = "list fewer pools, or raise ;rps= if the plans allow more"
        return Check.warning("budget", "", f"{told}, and the endpoints may be sent {allowed}", remedy)
    return Check.ok("budget", "", f"{told}, and the endpoints may be sent {allowed}")


async def _accounts(
    endpoints: Endpoints, keys: Sequence[Pubkey], part: Mapping[str, int] | None = None
) -> dict[Pubkey, _Program]:
    """Return accounts with the flag that other reads do not need; those that do not exist are left out."""
    if not keys:
        return {}
    config: dict[str, Any] = {"encoding": "base64", "commitment": "confirmed"}
    if part is not None:
        config["dataSlice"] = part

    def parse(answer: Answer) -> dict[Pubkey, _Program]:
        if not isinstance(answer.result, list) or len(answer.result) != len(keys):
            raise NotAnAnswerError("it did not answer with all accounts")
        pairs = zip(keys, answer.result, strict=True)
        return {key: _program(value) for key, value in pairs if value is not None}

    answer = await endpoints.read("getMultipleAccounts", [[str(key) for key in keys], config], parse=parse)
    accounts: dict[Pubkey, _Program] = answer.result
    return accounts


def _program(value: Any) -> _Program:
    match value:
        case {"owner": str(owner), "data": [str(text), "base64"], "executable": bool(executable)}:
            try:
                return _Program(Pubkey.from_string(owner), base64.b64decode(text, validate=True), executable)
            except ValueError:
                pass
    raise NotAnAnswerError("it answered with what is no account")


def _deployed_in(code: _Program | None) -> int | None:
    """Return the slot in which a program was last deployed; None if it has no code any more."""
    if code is None or len(code.data) != _CODE.size:
        return None
    kind, slot = _CODE.unpack(code.data)
    return int(slot) if kind == _CODE_KIND else None
