"""Routing: how an order's amount is led through pools, by mathematics on snapshots alone.

quoting.py     the best route of the latest snapshots
routes.py      the best route for an amount
paths.py       which ways there are between two tokens
exact.py       pools, paths and routes, quoted to the unit
trial.py       small amounts, where roundings decide
search.py      which paths to split over
best_set.py    the branch and bound of that
split.py       the best split over given paths
path_curve.py  a path's output as a function of its input
ceiling.py     what a pair's pools can pay at most for any amount
prices.py      a pair's prices at one moment: the ceiling, and exact quotes
"""

from service.routing.paths import HUBS
from service.routing.routes import NoRouteError, RouteLimits, best_route, find_route, marginal_price

__all__ = ["HUBS", "NoRouteError", "RouteLimits", "best_route", "find_route", "marginal_price"]
