"""Shared code of the tests.

Servers and processes:

servers.py        PostgreSQL and Redis, started once; a database of its own for each test
own_servers.py    servers that a test may kill, and the load under which it does so
pgbouncer.py      PgBouncer before a test's PostgreSQL
proxy.py          a network between the service and a server, with all that networks do wrong
process.py        the real service in a process of its own
openapi.py        the OpenAPI document, as it is served
settings.py       settings, loaded as if nothing but some variables were set

Clients:

orders.py         places and follows orders
load.py           many concurrent orders
resting.py        limit and sniper orders of every kind
gem_market.py     limit and sniper orders in a market whose prices only the test moves
flood.py          one request, repeated as fast as it is answered
raw.py            HTTP, byte by byte
sockets.py        a WebSocket client without automatic behaviour

Parts of the service in isolation:

store.py          the store
desk.py           the store, with others who end, fire and amend the same orders
statements.py     what happens to the statements of one process
interleaving.py   statements of several actors, interleaved as a test says
paper.py          the paper venue
market.py         the paper market, and a crowd that trades in it
stands.py         what tests of any venue need of one
clock.py          a clock that stands still until a test moves it
times.py          times that orders expire at
loop_lag.py       how long the event loop is held
loop_load.py      orders as large as orders can be

Oracles, independent of the engine's code:

judge.py          checks market orders
resting_judge.py  checks orders of every type
plain_search.py   the best route, by exhaustive trial
split_solver.py   the best split, by bisection
report.py         the report of the fault tests
"""
