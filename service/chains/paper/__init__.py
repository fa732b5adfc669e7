"""The paper market: pools, a ledger and slots in PostgreSQL that simulate a chain.

Like a remote chain, it has its own connections and commits, and no key joins its tables to the engine's.
Its promises are those of a chain: a transaction lands at most once, never after its last valid slot, and
never for less than its minimum.

venue.py          the venue's interface to the engine
settings.py       its settings
faults.py         a venue with faults on demand
audit.py          compares the orders with the ledger
transaction.py    the signed message
wallet.py         what the wallet holds

chain.py          leads, or follows the leader
lease.py          which instance leads
announcements.py  announces commits, transactions and commands to the other instances
leader.py         executes due transactions and commands, one group per commit
market.py         the pools and wallets in memory, and the execution of transactions
reference.py      the reference prices of the market's own traders
commands.py       listing and delisting, executed by the leader
outcomes.py       futures of callers that wait for an outcome

genesis.py        the pools of a new market
listing.py        lists pools on request
drafts.py         a transaction's changes, kept only if all of them are possible
pool.py           a pool and its vaults
pool_json.py      a pool as JSON

ledger.py         the ledger's statements
ledger_rows.py    the rows that they return, and what stands in them
command_queue.py  the commands' statements
records.py        parameters and results of the statements
messages.py       messages between instances
catalogue.py      the pools that this instance quotes from
"""
