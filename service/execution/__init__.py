"""One order's life from top to bottom.

engine.py    the lifecycle, step by step
outcomes.py  what became of a transaction
retry.py     when an order is tried again
"""
