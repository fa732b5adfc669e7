"""Where transactions execute, behind one interface.

venue.py       the interface: pools and their snapshots, and transactions from signing to their outcome
audit.py       the interface of a venue's part of the audit
factory.py     builds the venue
pool_index.py  pools by pair, and the tokens that they trade
paper/         a market in the engine's own PostgreSQL that simulates a chain
solana/        builds and reads transactions of Solana, and reads pools; not a venue yet
"""
