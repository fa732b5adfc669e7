"""The state of pools, read from nodes: what a venue's market data is made of.

feed.py      the market data of a venue: snapshots, changes, volumes
reader.py    when to read: polls, notifications and requests share reads
accounts.py  one read of accounts: all of one slot, with that slot's clock, or refused
pools.py     a listed pool: which accounts to read, and its state from them
arrays.py    bin arrays that notice when one of them is missing
slots.py     the slot now, and how long slots are
volumes.py   what was traded, from the vaults
"""
