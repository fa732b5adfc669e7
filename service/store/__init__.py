"""Stores orders. Only this package accesses the engine's own tables.

journal.py            inserts orders and appends transitions
transitions.py        one step of an order, and its row
claims.py             claims orders for execution
orders.py             reads orders
sightings.py          where submitted ones were seen executed before that is final, in memory
resting.py            reads, fires and amends resting orders
endings.py            cancels and expires orders
approvals.py          approves and refuses orders that await approval
budgets.py            what orders use of the budgets of API keys
day_sales.py          what all orders sell in a day
api_keys.py           creates, rotates and revokes API keys, and caches them
halt.py               the kill switch
idempotency.py        stores the keys of requests that may be sent again
order_events.py       reads the events of orders, for streams of many orders
event_position.py     how much of these a client has seen
purge.py              deletes rows that are no longer needed
instances.py          heartbeats of the instances, and takeover of a dead one's orders
venue_identity.py     the venue that the orders belong to
opening_balances.py   what the wallet held before the first of them
rate_limit.py         limits how many orders may start per minute
webhook_endpoints.py  where accounts want to be told of changes
webhook_outbox.py     the changes that are still to be delivered there
"""
