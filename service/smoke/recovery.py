"""What a smoke test breaks: instances that are killed between signing a transaction and sending it.

One is restarted at once: the stored transaction is sent, and lands. Of the other the transaction becomes too
old meanwhile: it must be proved that it can never land, and the order must end without another attempt.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from service.chains.solana.rpc.endpoint import Endpoint
from service.domain.lifecycle import Status
from service.domain.transaction import SignedTransaction
from service.smoke.client import Json
from service.smoke.report import SmokeReport, StepFailedError, StepSkippedError
from service.smoke.rig import PATIENCE_S, Rig
from service.smoke.trading import SOL, SwapsDone, unexpected_end

# Signed and durable, and not sent yet.
_SIGNED = "after submitted"
_DEATH_S = 10.0
_TRIES = 3
_LOOK_EVERY_S = 1.0
_FINALIZED = {"commitment": "finalized"}
# A transaction may land in the block above its last valid height.
_ONE_MORE = 1

_KILL = "A kill between signing and sending"
_EXPIRY = "A transaction that becomes too old"


async def break_and_recover(rig: Rig, report: SmokeReport, done: SwapsDone) -> None:
    """Run the steps."""
    if done.token is None:
        why = "orders are only simulated" if done.simulated else "no swap has succeeded before"
        for name in (_KILL, _EXPIRY):
            report.skip(name, why)
        return
    await report.run(_KILL, partial(_restart_at_once, rig, done, done.token))
    await report.run(_EXPIRY, partial(_restart_too_late, rig, done, done.token))


async def _restart_at_once(rig: Rig, done: SwapsDone, token: str) -> Sequence[str]:
    swap = {"tokenIn": SOL, "tokenOut": token, "amountIn": rig.options.amount}
    if done.bought is not None:
        swap = {"tokenIn": token, "tokenOut": SOL, "amountIn": done.bought}
    order_id, ended = await _place_and_be_killed(rig, {**swap, "orderType": "market"})
    if ended is not None:
        raise StepFailedError(unexpected_end(ended))
    transaction = await rig.transaction_of(order_id)
    for endpoint in rig.endpoints.readers:
        status, _ = await rig.status_at(endpoint, transaction.id)
        if status is not None:
            raise StepFailedError(f"{endpoint.name} knows the transaction that was not sent: {status}")
    async with rig.instance() as restarted:
        order = await restarted.client.end_of(order_id, PATIENCE_S)
    done.note_cost(order)
    if order["status"] != Status.CONFIRMED:
        raise StepFailedError(unexpected_end(order))
    which = "the same transaction" if order["txHash"] == transaction.id else "another attempt's"
    return [
        f"order {order_id}: killed with SIGKILL when {transaction.id} was stored; no endpoint knew it",
        f"after the restart {which} landed: {order['txHash']}",
        f"{order['amountIn']} {order['tokenIn']} for {order['amountOut']} {order['tokenOut']}",
    ]


async def _restart_too_late(rig: Rig, done: SwapsDone, token: str) -> Sequence[str]:
    # It has one attempt, and a price that any pool pays.
    order = {"tokenIn": SOL, "tokenOut": token, "amountIn": rig.options.amount, "orderType": "limit"}
    order |= {"timeInForce": "IOC", "limitPrice": "0.000000001"}
    order_id, ended = await _place_and_be_killed(rig, order)
    tries = 1
    while ended is not None:
        if tries == _TRIES:
            took = "it has 1.5 s to be signed, and the endpoints take longer"
            raise StepSkippedError(f"{took}: {unexpected_end(ended)}")
        order_id, ended = await _place_and_be_killed(rig, order)
        tries += 1
    transaction = await rig.transaction_of(order_id)
    proof = [await _proof_of(rig, endpoint, transaction) for endpoint in rig.endpoints.readers]
    async with rig.instance() as restarted:
        end = await restarted.client.end_of(order_id, PATIENCE_S)
    done.note_cost(end)
    if end["status"] != Status.EXPIRED or end["txHash"] is not None:
        raise StepFailedError(unexpected_end(end))
    return [
        f"order {order_id}: killed with SIGKILL when {transaction.id} was stored",
        f"its last valid block height is {transaction.last_valid_height}",
        *proof,
        f"after the restart the service proved it, too: {end['failureDetail']}",
    ]


async def _place_and_be_killed(rig: Rig, order: Mapping[str, str]) -> tuple[str, Json | None]:
    """Place an order at an instance that is killed when its transaction is stored.

    Returns:
        The order's id, and the order if it has ended without that.

    Raises:
        StepFailedError: The instance ended otherwise.
    """
    async with rig.instance(crash_at=_SIGNED) as instance:
        process = instance.process
        order_id = await instance.client.place(**order)
        ended = await instance.client.end_unless_dead(order_id, PATIENCE_S, lambda: process.code is not None)
        if ended is not None:
            return order_id, ended
        await process.ended(_DEATH_S)
        if not process.was_killed:
            raise StepFailedError(f"the instance ended with {process.code}: {process.last_lines()}")
    return order_id, None


async def _proof_of(rig: Rig, endpoint: Endpoint, transaction: SignedTransaction) -> str:
    """Wait until no block can take a transaction, and return in words that an endpoint knows it in none.

    Raises:
        StepFailedError: The endpoint knows it, or its blocks do not come.
    """
    last = transaction.last_valid_height + _ONE_MORE
    give_up = rig.clock.monotonic() + PATIENCE_S
    while (height := (await rig.ask(endpoint, "getBlockHeight", _FINALIZED)).result) <= last:
        if rig.clock.monotonic() > give_up:
            raise StepFailedError(f"{endpoint.name}: its finalized block height is only {height}")
        await rig.clock.sleep(_LOOK_EVERY_S)
    status, slot = await rig.status_at(endpoint, transaction.id)
    if status is not None:
        raise StepFailedError(f"{endpoint.name} knows the transaction that was not sent: {status}")
    return (
        f"{endpoint.name}: its finalized block height is {height}, so no later block can hold it; it does not"
        f" know the signature in its whole history, as of slot {slot}"
    )
