"""One order's life from top to bottom.

engine.py    the lifecycle, step by step
choosing.py  the route of an attempt, or why there is none
outcomes.py  what became of a transaction
retry.py     when an order is tried again
"""
