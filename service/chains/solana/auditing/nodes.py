"""Asks nodes, patiently: an audit has time, and one that does not answer now may be the one that knows.

Nothing is asked of two nodes at once to be faster, so an audit makes as few calls as it can beside a service
that shares the endpoints' limits.
"""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from solders.pubkey import Pubkey

from service.amm import AmmError
from service.chains.holding import Holding
from service.chains.solana.feed.accounts import MOST_KEYS, read_accounts
from service.chains.solana.proof import Look, Validity
from service.chains.solana.rpc.answers import Answer
from service.chains.solana.rpc.endpoint import Endpoint
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import NODE_UNHEALTHY, NoAnswerError, RpcError
from service.chains.solana.sending.looks import look
from service.chains.solana.tokens import token_amount
from service.chains.venue import VenueUnavailableError
from service.clock import Clock
from service.settings import InvalidSettingError

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 4
"""How many transactions are asked for at once."""

PAUSES_S = (1.0, 2.0, 4.0)
"""The pauses before a node that did not answer is asked again."""

_CALL_TIMEOUT_S = 10.0
_CHECK_EVERY_S = 10.0
_BUSY = frozenset({NODE_UNHEALTHY, 429, -32429})


class Nodes:
    """The endpoints, as an audit asks them.

    Args:
        endpoints: Of one cluster; the audit opens and closes them.
        clock: Measures time.
    """

    def __init__(self, endpoints: Endpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._checked_at = 0.0
        # Those that did not answer one call, however often they were asked: they are not waited for again.
        self._silent: set[str] = set()

    async def open(self, genesis_hash: str) -> None:
        """Connect, and find out which endpoints are of the cluster.

        Raises:
            InvalidSettingError: One is of another cluster.
            VenueUnavailableError: None says of which it is.
        """
        self._endpoints.wire.start()
        for pause_s in (*PAUSES_S, None):
            await self._check()
            for endpoint in self._endpoints.readers:
                await self._check_cluster(endpoint, genesis_hash)
            if self.usable or pause_s is None:
                break
            await self._clock.sleep(pause_s)
        if not self.usable:
            raise VenueUnavailableError("no endpoint says which cluster it belongs to")

    async def close(self) -> None:
        """Disconnect."""
        await self._endpoints.stop()

    async def keep_up(self) -> None:
        """Look at every endpoint again, if the last look was long ago."""
        if self._clock.monotonic() - self._checked_at >= _CHECK_EVERY_S:
            await self._check()

    @property
    def usable(self) -> list[Endpoint]:
        """The endpoints of the cluster that can be read from, those that answer first."""
        known = [each for each in self._endpoints.readers if not each.foreign]
        return sorted(known, key=lambda each: (each.failures, each.latency_s))

    async def answers(self, method: str, params: Sequence[Any]) -> AsyncGenerator[Any, None]:
        """Yield the result of every endpoint, one by one: a caller that knows enough stops.

        Endpoints that do not answer are asked again after all others.

        Raises:
            VenueUnavailableError: None answered.
        """
        answered, reason = False, "every endpoint is of another cluster"
        waiting = self.usable
        for pause_s in (*PAUSES_S, None):
            left = []
            for endpoint in waiting:
                try:
                    answer = await self._call(endpoint, method, params)
                except (RpcError, NoAnswerError) as error:
                    reason = str(error)
                    if not isinstance(error, RpcError) or _may_pass(error):
                        left.append(endpoint)
                    continue
                answered = True
                yield answer.result
            waiting = left
            patient = [each for each in left if each.name not in self._silent]
            if pause_s is None or not (patient or (left and not answered)):
                break
            await self._clock.sleep(pause_s)
        self._silent.update(each.name for each in waiting)
        if not answered:
            raise VenueUnavailableError(f"{method}: {reason}")

    async def answer_of(self, endpoint: Endpoint, method: str, params: Sequence[Any]) -> Any:
        """Return one endpoint's result, or raise what came instead at last.

        Raises:
            RpcError: The node refused the call.
            NoAnswerError: It did not answer.
        """
        pauses_s = () if endpoint.name in self._silent else PAUSES_S
        for pause_s in pauses_s:
            try:
                return (await self._call(endpoint, method, params)).result
            except NoAnswerError:
                await self._clock.sleep(pause_s)
            except RpcError as error:
                if not _may_pass(error):
                    raise
                await self._clock.sleep(pause_s)
        return (await self._call(endpoint, method, params)).result

    async def looks(self, validities: Mapping[str, Validity]) -> list[Look]:
        """Return what each endpoint says of transactions, and how far its history goes back."""
        return [await look(endpoint, validities) for endpoint in self.usable]

    async def pause(self, seconds: float) -> None:
        """Wait before asking again."""
        await self._clock.sleep(seconds)

    async def holdings(self, wallet: str, opening: Sequence[Holding]) -> list[Holding]:
        """Return what the accounts hold in a finalized block, each not older than its opening balance.

        Raises:
            VenueUnavailableError: No endpoint answered.
        """
        held = []
        for start in range(0, len(opening), MOST_KEYS):
            held += await self._holdings(wallet, opening[start : start + MOST_KEYS])
        return held

    async def _holdings(self, wallet: str, opening: Sequence[Holding]) -> list[Holding]:
        keys = [Pubkey.from_string(each.account) for each in opening]
        oldest = max(each.slot for each in opening)
        reason = ""
        for pause_s in (*PAUSES_S, None):
            try:
                read = await read_accounts(self._endpoints, keys, min_slot=oldest, commitment="finalized")
                found = {str(key): each for key, each in read.accounts.items()}
                return [
                    Holding(
                        each.mint,
                        each.token,
                        each.account,
                        read.slot,
                        0
                        if each.account not in found
                        else found[each.account].lamports
                        if each.account == wallet
                        else token_amount(found[each.account].data),
                    )
                    for each in opening
                ]
            except (RpcError, AmmError, VenueUnavailableError) as error:
                reason = str(error)
            if pause_s is not None:
                await self._clock.sleep(pause_s)
        raise VenueUnavailableError(f"the wallet cannot be read: {reason}")

    async def _call(self, endpoint: Endpoint, method: str, params: Sequence[Any]) -> Answer:
        answer = await endpoint.call(method, params, timeout_s=_CALL_TIMEOUT_S)
        self._silent.discard(endpoint.name)
        return answer

    async def _check(self) -> None:
        self._checked_at = self._clock.monotonic()
        await self._endpoints.check()

    async def _check_cluster(self, endpoint: Endpoint, genesis_hash: str) -> None:
        if not endpoint.foreign:
            return
        try:
            found = (await endpoint.call("getGenesisHash", [])).result
        except (RpcError, NoAnswerError) as error:
            log.warning("%s", error)
            return
        if found != genesis_hash:
            raise InvalidSettingError(
                f"the endpoint {endpoint.name} is of the cluster with the genesis hash {found}, "
                f"and the orders of this database are on {genesis_hash}"
            )


def _may_pass(error: RpcError) -> bool:
    """Whether the same node may answer the same call later."""
    return error.is_failure or error.code in _BUSY
