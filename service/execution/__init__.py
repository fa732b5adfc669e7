"""One order's life from top to bottom.

``engine`` reads like the lifecycle, ``outcomes`` finds out what became of a transaction, ``retry`` says when
to try again, ``offers`` is what an order shows of its quotes.
"""
