"""One order's life from top to bottom.

engine.py       the lifecycle, step by step
order_queue.py  which orders are to be worked on, and when
best_quote.py   the route of an attempt, or why there is none
running.py      the orders that this process works on
outcomes.py     what became of a transaction
retry.py        when an order is tried again
"""
