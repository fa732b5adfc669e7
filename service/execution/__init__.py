"""The lifecycle of one order.

engine.py       the lifecycle, step by step
order_queue.py  the queue of orders to execute
best_quote.py   the best route for an attempt, or why it fails
running.py      the orders that this process is executing, none twice
outcomes.py     sends a transaction and waits for its outcome
retry.py        when an attempt is retried
"""
