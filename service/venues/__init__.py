"""Where orders execute.

venue.py    the interface that every venue fits
quoting.py  the best route of the latest snapshots
routing/    how an amount is led through pools
amm/        the mathematics of the pools' programs
paper/      a market in the engine's own PostgreSQL that behaves like a chain
"""
