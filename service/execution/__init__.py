"""One order's life from top to bottom.

``engine`` reads like the lifecycle, ``retry`` says when to try again, ``recovery`` finds the orders that
nobody is working on.
"""
