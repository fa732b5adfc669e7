"""The audit against the chain: real orders on a served chain, and every kind of violation of them.

The chain and its orders are made once. Each test corrupts the database or the nodes, and restores them.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from service.chains.audit import Finding, LedgerReport
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.auditing import stored, strangers
from service.chains.solana.auditing.evidence import Evidence, EvidenceReader
from service.chains.solana.auditing.stored import StoredTransaction
from service.chains.venue import VenueUnavailableError
from service.domain.tokens import TOKENS
from service.domain.transaction import TransactionState
from service.settings import InvalidSettingError
from tests.support.local_chain import SOL
from tests.support.servers import TestCluster, TestServers
from tests.support.solana_audit import AuditedOrders, audited_orders
from tests.support.solana_venue import WHOLE_LIFE

pytestmark = pytest.mark.asyncio(loop_scope="module")

_TABLES = ("orders", "transactions", "opening_balances", "venue_identity")
_FINAL = 40
"""Slots after which a block of now is final."""


@dataclass(frozen=True, slots=True)
class ChainWithOrders:
    """Four orders that have ended, and their transactions in the sequence of the attempts."""

    orders: AuditedOrders
    servers: TestServers
    ids: dict[str, str]

    def run(self, statement: str) -> None:
        """Corrupt the database; :sold and so on are the orders' ids, :sold_tx the last transaction."""
        for name, order_id in self.ids.items():
            of_order = f"FROM transactions WHERE order_id = '{order_id}' ORDER BY sequence DESC LIMIT 1"
            statement = statement.replace(f":{name}_tx", f"(SELECT id {of_order})")
            statement = statement.replace(f":{name}", f"'{order_id}'")
        with self.servers.connect() as link, link.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(statement)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the tables and the nodes afterwards."""
        try:
            yield
        finally:
            for table in _TABLES:
                _copy(self, f"saved.{table}", table)
            for node in self.orders.desk.served.nodes:
                node.faults.clear()

    def save(self) -> None:
        """Keep the tables for ``restored``, and let them be corrupted."""
        for name in ("last_entry", "filled", "expiry", "failed", "residue"):
            self.run(f"ALTER TABLE orders DROP CONSTRAINT orders_{name}")
        self.run("CREATE SCHEMA saved")
        for table in _TABLES:
            self.run(f"CREATE TABLE saved.{table} AS TABLE {table}")

    def transaction(self, name: str) -> str:
        """Return the last transaction of an order."""
        with self.servers.connect() as link, link.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM transactions WHERE order_id = %s ORDER BY sequence DESC", [self.ids[name]]
            )
            return str(cursor.fetchall()[0][0])


def _copy(chain: ChainWithOrders, source: str, target: str) -> None:
    chain.run(f"DELETE FROM {target}; INSERT INTO {target} SELECT * FROM {source}")  # noqa: S608 - names of here


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chain(cluster: TestCluster) -> AsyncIterator[ChainWithOrders]:
    servers = cluster.new()
    try:
        async with audited_orders(servers) as orders:
            ids = {
                "sold": await orders.execute("SOL", "USDC", SOL),
                "hopped": await orders.execute("JUP", "BONK", 10**9),
                "retried": await _failed_and_retried(orders),
                "expired": await _expired(orders),
            }
            made = ChainWithOrders(orders, servers, ids)
            made.save()
            yield made
    finally:
        cluster.drop(servers)


async def _failed_and_retried(orders: AuditedOrders) -> str:
    """Execute an order whose first attempt fails on the chain, and costs its fee."""
    desk = orders.desk
    route = (await desk.quote("USDC", "SOL", 10**8)).route
    claim = await orders.claimed(route)
    signed = await desk.signed(route, slippage_bps=0)
    desk.served.sandbox.control.mover.arm(500)
    claim = await orders.submitted(claim, route, signed)
    failed = await orders.record(claim, signed, retried=True)
    assert failed.state is TransactionState.FAILED
    assert failed.cost is not None
    route = (await desk.quote("USDC", "SOL", 10**8)).route
    signed = await desk.signed(route)
    claim = await orders.submitted(await orders.claim(claim.order_id), route, signed)
    assert (await orders.record(claim, signed)).state is TransactionState.LANDED
    return claim.order_id


async def _expired(orders: AuditedOrders) -> str:
    """Fail an order whose transaction never lands."""
    desk = orders.desk
    for place in range(len(desk.served.nodes)):
        desk.served.arm("drop", place, times=None)
    route = (await desk.quote("SOL", "USDC", SOL)).route
    claim = await orders.claimed(route)
    signed = await desk.signed(route)
    claim = await orders.submitted(claim, route, signed)
    await desk.pass_slots(WHOLE_LIFE, every=8)
    assert (await orders.record(claim, signed)).state is TransactionState.EXPIRED
    for node in desk.served.nodes:
        node.faults.clear()
    return claim.order_id


def told(findings: list[Finding]) -> list[str]:
    return [f"{each.order_id}: {each.what}" for each in findings]


def assert_clean(report: LedgerReport) -> None:
    assert told(report.findings) == []
    assert told(report.warnings) == []


async def test_what_has_been_executed_agrees_with_the_chain(chain: ChainWithOrders) -> None:
    report = await chain.orders.audit()
    assert_clean(report)
    assert (report.landed, report.in_flight, report.notes) == (3, 0, [])


async def test_orders_and_signatures_are_read_in_pages(
    chain: ChainWithOrders, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page in (1, 2):
        monkeypatch.setattr(stored, "PAGE", page)
        monkeypatch.setattr(strangers, "_PAGE", page)
        report = await chain.orders.audit()
        assert_clean(report)
        assert report.landed == 3


_NOT_STORED = "DELETE FROM transactions WHERE order_id = :sold"

SPOILS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "wrong amount out": (
        "UPDATE orders SET amount_out = amount_out + 1 WHERE id = :sold",
        [("sold", "base units, and the chain has 1000000000 for "), ("USDC", "a difference of -1")],
    ),
    "wrong amount in": (
        "UPDATE orders SET amount_in = amount_in - 1 WHERE id = :sold",
        [("sold", "confirmed with 999999999 for "), ("SOL", "a difference of -1")],
    ),
    "wrong fee": (
        "UPDATE transactions SET network_fee = network_fee - 2 WHERE id = :sold_tx",
        [("sold", "is recorded with a fee of 4998 and a rent of 0"), ("SOL", "a difference of -2")],
    ),
    "wrong rent": (
        "UPDATE transactions SET rent = 7 WHERE id = :sold_tx",
        [("sold", "is recorded with a fee of 5000 and a rent of 7"), ("SOL", "a difference of 7")],
    ),
    "wrong residue": (
        "UPDATE orders SET residue = NULL WHERE id = :hopped",
        [("hopped", "confirmed with the residue nothing, the chain has ")],
    ),
    "wrong slot": (
        "UPDATE transactions SET slot = slot + 1 WHERE id = :sold_tx",
        [("sold", "and the chain has it in slot ")],
    ),
    "wrong token": (
        "UPDATE orders SET token_out = 'RAY' WHERE id = :sold",
        [("sold", "an order of SOL for RAY, and the chain has SOL for USDC"), ("RAY", "a difference of ")],
    ),
    "other bytes": (
        "UPDATE transactions SET raw = (SELECT raw FROM transactions WHERE id = :hopped_tx)"
        " WHERE id = :sold_tx",
        [("sold", "has other bytes in the chain than are stored")],
    ),
    "landed twice": (
        "UPDATE transactions SET order_id = :retried, sequence = 99 WHERE id = :sold_tx",
        [("retried", "landed 2 times: "), ("sold", "which is not stored")],
    ),
    "ended otherwise, and landed": (
        "UPDATE orders SET status = 'failed', tx_hash = NULL, amount_in = NULL, amount_out = NULL"
        " WHERE id = :sold",
        [
            ("sold", "failed, and transaction "),
            ("SOL", "a difference of -1000000000"),
            ("USDC", "difference"),
        ],
    ),
    "confirmed by another transaction": (
        "UPDATE orders SET tx_hash = 'another' WHERE id = :sold",
        [("sold", "confirmed by another, which is not stored"), ("sold", " landed in slot ")],
    ),
    "confirmed, and never landed": (
        "UPDATE orders SET status = 'confirmed', tx_hash = :expired_tx, amount_in = 1, amount_out = 1"
        " WHERE id = :expired",
        [("expired", "is not in the chain")],
    ),
    "confirmed by a transaction that failed": (
        "UPDATE orders SET tx_hash = (SELECT id FROM transactions WHERE order_id = :retried ORDER BY sequence"
        " LIMIT 1) WHERE id = :retried",
        [("retried", "failed in slot "), ("retried", "landed in slot ")],
    ),
    "a failure that is not recorded": (
        "UPDATE transactions SET network_fee = NULL, tip = NULL, rent = NULL, slot = NULL, error = NULL"
        " WHERE order_id = :retried AND error IS NOT NULL",
        [
            ("retried", "cost a fee of 5000 and a rent of 0 lamports by the chain"),
            ("SOL", "difference of -5000"),
        ],
    ),
    "a failure that never was": (
        "UPDATE transactions SET network_fee = 5000, tip = 0, rent = 0, slot = 7 WHERE id = :expired_tx",
        [("expired", "is recorded as failed in slot 7, and is not in the chain")],
    ),
    "another opening balance": (
        "UPDATE opening_balances SET amount = amount + 1 WHERE token = 'BONK'",
        [("BONK", "a difference of -1")],
    ),
    "a transaction that is in no table": (
        _NOT_STORED,
        [("sold", "which is not stored"), ("", "is signed with the wallet's key and belongs to no order: ")],
    ),
}


@pytest.mark.parametrize("name", SPOILS)
async def test_each_violation_is_found(chain: ChainWithOrders, name: str) -> None:
    statement, expected = SPOILS[name]
    with chain.restored():
        chain.run(statement)
        report = await chain.orders.audit()
    found = told(report.findings)
    for subject, what in expected:
        begin = chain.ids.get(subject, subject)
        assert any(each.startswith(begin) and what in each for each in found), found
    # And nothing about the others.
    subjects = {each.order_id for each in report.findings}
    assert {name for name, order_id in chain.ids.items() if order_id in subjects} <= {
        name for name, _ in expected
    }


async def test_a_lost_transaction_is_told_with_what_it_changed(chain: ChainWithOrders) -> None:
    with chain.restored():
        signature = chain.transaction("sold")
        chain.run(_NOT_STORED)
        report = await chain.orders.audit()
    [stranger] = [each.what for each in report.findings if each.order_id == signature]
    assert "-1000005000 of SOL (base units)" in stranger
    assert " of USDC" in stranger


# --- Nodes


async def test_one_node_with_its_history_is_enough(chain: ChainWithOrders) -> None:
    with chain.restored():
        chain.orders.desk.served.arm("no_history", 0, times=None)
        report = await chain.orders.audit()
    assert_clean(report)
    assert report.landed == 3


@pytest.mark.parametrize(("fault", "options"), [("no_history", {}), ("hole", {"slots": 600})])
async def test_what_no_node_has_kept_is_not_verifiable(
    chain: ChainWithOrders, fault: str, options: dict[str, int]
) -> None:
    with chain.restored():
        for place in (0, 1):
            chain.orders.desk.served.arm(fault, place, times=None, **options)
        report = await chain.orders.audit()
    assert told(report.findings) == []
    warned = {each.order_id for each in report.warnings}
    assert {*chain.ids.values()} <= warned
    wallet = str(chain.orders.desk.local.wallet.pubkey())
    assert any(
        "no endpoint has all transactions" in each.what for each in report.warnings if each.order_id == wallet
    )
    assert report.landed == 0


async def test_a_difference_is_not_a_violation_while_others_transactions_are_not_known(
    chain: ChainWithOrders,
) -> None:
    with chain.restored():
        for place in (0, 1):
            chain.orders.desk.served.arm("no_history", place, times=None)
        chain.run("UPDATE opening_balances SET amount = amount + 1 WHERE token = 'BONK'")
        report = await chain.orders.audit()
    assert told(report.findings) == []
    [warned] = [each.what for each in report.warnings if each.order_id == "BONK"]
    assert warned.startswith("not verifiable: ")


@pytest.mark.parametrize("fault", ["down", "error", "rate_limit", "unavailable", "garbage", "lose_answer"])
async def test_answers_that_are_lost_are_asked_for_again(chain: ChainWithOrders, fault: str) -> None:
    with chain.restored():
        for place in (0, 1):
            chain.orders.desk.served.arm(fault, place, times=None, rate_ppm=200_000)
        report = await chain.orders.audit()
    assert_clean(report)
    assert report.landed == 3


async def test_without_any_node_there_is_no_report(chain: ChainWithOrders) -> None:
    with chain.restored():
        for place in (0, 1):
            chain.orders.desk.served.arm("down", place, times=None)
        with pytest.raises(VenueUnavailableError):
            await chain.orders.audit()


async def test_orders_of_another_cluster_or_venue_are_refused(chain: ChainWithOrders) -> None:
    for change, reason in (
        ("UPDATE venue_identity SET market = 'another'", "is of the cluster with the genesis hash"),
        ("UPDATE venue_identity SET kind = 'paper'", "no order is on a chain"),
    ):
        with chain.restored():
            chain.run(change)
            with pytest.raises(InvalidSettingError, match=reason):
                await chain.orders.audit()


async def test_of_orders_that_were_only_simulated_nothing_is_compared(chain: ChainWithOrders) -> None:
    with chain.restored():
        chain.run("UPDATE venue_identity SET kind = 'solana-simulate'")
        report = await chain.orders.audit()
    assert (report.landed, report.findings, report.warnings) == (0, [], [])
    assert "only simulated" in report.notes[0].what


async def test_orders_of_an_earlier_venue_are_left_out(chain: ChainWithOrders) -> None:
    with chain.restored():
        chain.run("UPDATE venue_identity SET since = now(); UPDATE orders SET amount_out = amount_out + 1")
        report = await chain.orders.audit()
    assert (report.landed, told(report.findings)) == (0, [])


# --- What is no violation


async def test_a_fill_after_the_time_of_its_order_is_listed(chain: ChainWithOrders) -> None:
    landed = chain.orders.desk.chain.landed(chain.transaction("sold"))
    assert landed is not None
    with chain.restored():
        time_s = str(landed.time_s - 2)
        chain.run(
            "UPDATE orders SET expires_at = to_timestamp(:time) WHERE id = :sold".replace(":time", time_s)
        )
        report = await chain.orders.audit()
    assert_clean(report)
    assert told(report.notes) == [f"{chain.ids['sold']}: landed 2 s after its time"]


async def test_without_opening_balances_it_says_so(chain: ChainWithOrders) -> None:
    with chain.restored():
        chain.run("DELETE FROM opening_balances")
        report = await chain.orders.audit()
        assert told(report.findings) == []
        [warned] = report.warnings
        assert "the next start records the opening balances" in warned.what
        chain.run("UPDATE transactions SET blockhash_slot = NULL WHERE id = :expired_tx")
        report = await chain.orders.audit()
    assert any("the slot of its blockhash is not stored" in each.what for each in report.warnings)


async def test_balances_that_were_recorded_later_count_from_then_on(chain: ChainWithOrders) -> None:
    with chain.restored():
        chain.run("DELETE FROM opening_balances WHERE token IN ('SOL', 'USDC')")
        report = await chain.orders.audit()
        assert told(report.findings) == []
        assert {each.order_id for each in report.warnings} == {"SOL", "USDC"}
        await chain.orders.record_opening()
        assert_clean(await chain.orders.audit())


async def test_since_a_time_only_what_has_changed_is_compared(chain: ChainWithOrders) -> None:
    with chain.restored():
        chain.run("UPDATE orders SET amount_out = amount_out + 1 WHERE id = :sold")
        report = await chain.orders.audit(datetime(2020, 1, 1, tzinfo=UTC))
        assert [each.order_id for each in report.findings] == [chain.ids["sold"]]
        assert [each.what for each in report.notes] == ["the balances are compared only without --since"]
        report = await chain.orders.audit(datetime(2100, 1, 1, tzinfo=UTC))
    assert (report.landed, told(report.findings)) == (0, [])


# --- The chain goes on: these come last, since its blocks stay


async def in_final_blocks(chain: ChainWithOrders, *changes: Callable[[], object]) -> None:
    for change in changes:
        change()
    await chain.orders.desk.pass_slots(_FINAL)


async def test_what_is_in_flight_is_counted_by_the_chain(
    chain: ChainWithOrders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = chain.orders
    route = (await orders.desk.quote("SOL", "USDC", SOL)).route
    claim = await orders.claimed(route)
    signed = await orders.desk.signed(route)
    claim = await orders.submitted(claim, route, signed)
    report = await orders.audit()
    assert_clean(report)
    assert (report.landed, report.in_flight) == (3, 1)
    # It is in a final block, and the service was not told.
    await orders.desk.pass_slots(_FINAL)
    report = await orders.audit()
    assert_clean(report)
    assert (report.landed, report.in_flight) == (3, 1)
    # No node tells what it did, so that it explains no difference.
    read = EvidenceReader.receipts

    async def not_told(reader: EvidenceReader, asked: Sequence[StoredTransaction]) -> dict[str, Evidence]:
        return await read(reader, [each for each in asked if each.id != signed.id])

    with monkeypatch.context() as patch:
        patch.setattr(EvidenceReader, "receipts", not_told)
        report = await orders.audit()
    assert report.findings == []
    wallet = str(orders.desk.local.wallet.pubkey())
    assert {each.order_id for each in report.warnings} == {wallet, "SOL", "USDC"}
    assert any("1 transactions of orders are in the chain" in each.what for each in report.warnings)
    await orders.record(claim, signed)
    report = await orders.audit()
    assert_clean(report)
    assert (report.landed, report.in_flight) == (4, 0)
    for table in _TABLES:
        _copy(chain, table, f"saved.{table}")


async def test_a_balance_that_no_transaction_explains_is_found(chain: ChainWithOrders) -> None:
    desk = chain.orders.desk
    held = (await desk.venue.balance("USDC")).total
    await in_final_blocks(chain, lambda: desk.hold("USDC", held - 3))
    report = await chain.orders.audit()
    [found] = report.findings
    assert found.order_id == "USDC"
    assert found.what.endswith("a difference of -3")
    await in_final_blocks(chain, lambda: desk.hold("USDC", held))
    assert_clean(await chain.orders.audit())


async def test_a_node_that_is_behind_does_not_hide_what_others_have_done(chain: ChainWithOrders) -> None:
    served, local, trader = (
        chain.orders.desk.served,
        chain.orders.desk.local,
        chain.orders.desk.chain.genesis.trader,
    )
    wallet = local.wallet.pubkey()
    pay = transfer(TransferParams(from_pubkey=trader.pubkey(), to_pubkey=wallet, lamports=19))
    local.send(local.signed([pay], payer=trader))
    await chain.orders.desk.pass_slots(35)
    with chain.restored():
        # It is not final for the first one, which is faster, and does not tell the balances.
        served.arm("behind", 0, slots=10, times=None)
        served.arm("error", 0, method="getMultipleAccounts", times=None)
        served.arm("slow", 1, delay_ms=30, times=None)
        report = await chain.orders.audit()
    assert_clean(report)
    assert [each.what.partition(": ")[2] for each in report.notes] == ["+19 of SOL (base units)"]


async def test_deposits_are_listed_and_what_the_key_has_signed_elsewhere_is_a_violation(
    chain: ChainWithOrders,
) -> None:
    local, trader = chain.orders.desk.local, chain.orders.desk.chain.genesis.trader
    wallet = local.wallet.pubkey()
    mint = Pubkey.from_string(TOKENS["USDC"].mint)

    def account(owner: Pubkey) -> Pubkey:
        return associated_token_account(owner, mint, TOKEN_PROGRAM)

    def pay_tokens(amount: int) -> Instruction:
        metas = [
            AccountMeta(account(trader.pubkey()), is_signer=False, is_writable=True),
            AccountMeta(account(wallet), is_signer=False, is_writable=True),
            AccountMeta(trader.pubkey(), is_signer=True, is_writable=False),
        ]
        return Instruction(TOKEN_PROGRAM, bytes([3]) + amount.to_bytes(8, "little"), metas)

    def lamports(payer: Pubkey, to: Pubkey, amount: int) -> Instruction:
        return transfer(TransferParams(from_pubkey=payer, to_pubkey=to, lamports=amount))

    await in_final_blocks(
        chain,
        lambda: local.send(local.signed([pay_tokens(11)], payer=trader)),
        lambda: local.send(local.signed([lamports(trader.pubkey(), wallet, 13)], payer=trader)),
    )
    report = await chain.orders.audit()
    assert_clean(report)
    paid = [each.what.partition("paid to the wallet: ")[2] for each in report.notes]
    assert sorted(paid) == [f"+{amount} (base units)" for amount in ("11 of USDC", "13 of SOL", "19 of SOL")]
    taken = local.signed([lamports(wallet, trader.pubkey(), 17)])
    await in_final_blocks(chain, lambda: local.send(taken))
    report = await chain.orders.audit()
    # The balances agree with it.
    [found] = report.findings
    assert found.order_id == str(taken.signatures[0])
    assert "is signed with the wallet's key and belongs to no order" in found.what
    assert "of SOL (base units)" in found.what
    assert report.warnings == []
    # Whoever knows it looks at what came later.
    later = datetime.fromtimestamp(chain.orders.desk.chain.tip.time_s, UTC)
    assert told((await chain.orders.audit(later)).findings) == []
