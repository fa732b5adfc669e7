"""Routing: finds the best route of an amount through pools, from their snapshots alone.

quoting.py     the best route on the latest snapshots
routes.py      the best route for an amount
paths.py       the paths between two tokens
hops.py        pools with the computed parts of their curves
exact.py       exact quotes of pools, paths and routes
limits.py      the limits of a route
trial.py       small amounts, where rounding matters
search.py      chooses the paths to split over
best_set.py    its branch and bound
split.py       the optimal split over given paths
path_curve.py  a path's output as a function of its input
ceiling.py     an upper bound on a pair's output for any amount
changes.py     which pairs a change of the market may affect
prices.py      a pair's prices at one moment: the ceiling, and exact quotes
dollars.py     what an amount is worth in dollars
"""

from service.routing.limits import RouteLimits
from service.routing.paths import HUBS
from service.routing.routes import NoRouteError, best_route, find_route, marginal_price

__all__ = ["HUBS", "NoRouteError", "RouteLimits", "best_route", "find_route", "marginal_price"]
