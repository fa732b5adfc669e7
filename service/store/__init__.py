"""The truth about every order. Only this package touches the engine's own tables.

journal.py     inserts orders and moves them
claims.py      starts work on orders
orders.py      reads orders
resting.py     orders that wait for a trigger
endings.py     cancels and expires orders
instances.py   heartbeats of the instances, and what dead ones have left
rate_limit.py  how many orders may start in a minute
"""
