"""Shared code of the tests.

Servers and processes:

servers.py        PostgreSQL and Redis, started once, with a separate database for each test
own_servers.py    servers that a test may kill, and a load on the service
small_disk.py     a file system so small that a test can fill it
faked_time.py     PostgreSQL with a clock that a test moves
pgbouncer.py      PgBouncer in front of a test's PostgreSQL
proxy.py          a TCP proxy that injects network faults
process.py        the real service in its own process
kills.py          kills it while clients use it
forks.py          starts it sooner, as a fork
fork_parent.py    the process of which it is a fork
openapi.py        the OpenAPI document, as it is served
keys.py           creates API keys
settings.py       loads settings from given variables only
solana_sandbox.py  a sandbox chain in a process of its own
venues.py         the venues that the fault suites run on, each with its judge

Clients:

orders.py         places and follows orders
load.py           many concurrent orders
approvals.py      API keys whose orders must be approved, and keys that approve them
resting.py        limit and sniper orders of every kind
gem_market.py     limit and sniper orders in a market whose prices only the test moves
flood.py          one request, repeated as fast as it is answered
raw.py            HTTP, byte by byte
receiver.py       a webhook receiver
sockets.py        a WebSocket client without automatic behaviour
watchers.py       many clients of the stream of all orders
socket_fuzz.py    what hostile clients do with a WebSocket
contract_hooks.py  lets schemathesis send requests that are accepted

Parts of the service in isolation:

store.py          the store
desk.py           the store, with concurrent cancellation, firing and amendment
statements.py     what happens to the statements of one process
executed.py       transactions that the real Solana programs executed
solana_pools.py   pools of those programs at made-up addresses
local_chain.py    a sandbox chain that only the test moves, with transactions for it
chain_faults.py   steps of random lives on a served chain: time, forks, and faults of its nodes
served_chain.py   a local chain behind HTTP and WebSocket, and the service's own client of it
solana_tracking.py  a served chain with a tracker, whose time and slots only the test moves
inspected_chain.py  a served chain and the service's inspector of it
solana_audit.py   stored orders on that venue, and the audit of both
solana_venue.py   the Solana venue on a served chain, whose time and slots only the test moves
solana_orders.py  orders on such a venue, by the rules of the engine, and what the wallet should hold
interleaving.py   statements of several actors, interleaved by a schedule
paper.py          the paper venue
market.py         the paper market, and a random trader
stands.py         test stands for the venue cards
clock.py          a clock that only the test moves
times.py          expiry times
loop_lag.py       measures how long the event loop is blocked
loop_load.py      orders of the maximum size

Oracles, independent of the engine's code:

judge.py          checks market orders
resting_judge.py  checks orders of every type
solana_judge.py   checks market orders against a sandbox chain's own record
plain_search.py   the best route, by exhaustive trial
split_solver.py   the best split, by bisection
report.py         the report of the fault tests
"""
