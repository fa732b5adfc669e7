"""Where transactions execute, behind one interface.

venue.py       the interface: pools and their snapshots, and transactions from signing to their outcome
audit.py       the interface of a venue's part of the audit
inspection.py  the interface of what looks at a venue before it trades
holding.py     what a wallet holds of one token
factory.py     builds the venue
order_limits.py  checks the limits of what orders sell, when the venue's tokens are known
pool_index.py  pools by pair, and the tokens that they trade
paper/         a market in the engine's own PostgreSQL that simulates a chain
solana/        pools and one wallet of a Solana cluster
local_cluster.py  what the Solana venue must know of a chain on this machine
"""
