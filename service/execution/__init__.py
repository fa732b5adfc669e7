"""The lifecycle of one order.

engine.py       the lifecycle, step by step
order_queue.py  the queue of orders to execute
best_quote.py   the route of an attempt, or why there is none
running.py      the orders that this process is executing
outcomes.py     the outcome of a transaction
retry.py        when an order is attempted again
"""
