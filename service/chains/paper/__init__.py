"""A market on paper: pools, a ledger and slots in PostgreSQL that behave like a chain's.

It stands behind a wire: connections and commits of its own, tables that no key joins to the engine's.
What it promises is what a chain promises: a signature lands at most once, never after its last valid
slot, and never for less than its minimum.

venue.py          the venue, as the engine sees it
faults.py         a venue that goes wrong on demand
transaction.py    what is signed

chain.py          leads, or follows the leader
lease.py          which instance leads
announcements.py  what the instances tell each other
leader.py         executes what is due, a group and a commit at a time
market.py         the pools and wallets in memory, and what a transaction does to them
reference.py      the prices that the market's own traders trade to
commands.py       listing and delisting, which the leader executes
outcomes.py       those who wait to hear what became of something

genesis.py        the pools of a new market
listing.py        pools that are listed on request
drafts.py         what a transaction changes, kept only if all of it is possible
pool.py           a pool and its vaults
pool_json.py      a pool as JSON

ledger.py         the ledger's statements
ledger_rows.py    the rows that they return, and what stands in them
command_queue.py  the commands' statements
records.py        what the statements take and return
messages.py       messages from the leader to the other instances
catalogue.py      the pools that this instance quotes from
"""
