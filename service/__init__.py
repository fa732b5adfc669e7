"""The order execution engine: executes swap orders on the best route across DEXs, each exactly once.

The map, from the outside in. Imports go down this list only:

__main__.py       the entry point of the command line
cli/              the commands, and how their errors are shown
smoke/            trades small amounts on a Solana cluster, and kills the service in between
app.py            the whole service: its parts, the API, and the order in which they start and stop
chain.py          builds the chain that is the venue, before any server is started
lifespan.py       starts parts in order and stops them in reverse
audit.py          checks every order against the venue's ledger
sandbox/          a local Solana chain, with doubles of the AMM programs
api/              REST and WebSocket: requests and responses
parts.py          builds the parts: storage, market, execution, webhooks
triggers/         fires limit and sniper orders
workers/          taskiq on Redis: schedules the execution of orders
execution/        one order's life from top to bottom, and its retries
webhooks/         delivers the changes of orders to webhook endpoints
events/           publishes committed changes to watchers
store/            orders in PostgreSQL: the journal (group commit), claims, reads
routing/          finds the best route through pools
chains/           where transactions execute: the interface, the paper market, Solana
redis/            access to Redis
postgres/         access to PostgreSQL: connections, statements, migrations
amm/              pure: the mathematics of four AMM programs
domain/           pure: orders, lifecycle, amounts, tokens, quotes, failures

All layers may use:

settings.py       all settings, typed, from the environment
solana_settings.py  those of the Solana venue
environment.py    variables of the environment, each read by its name
urls/             parses DATABASE_URL and REDIS_URL
clock.py          the only source of time, ids and randomness
background.py     background loops
turns.py          long computations that yield to the event loop
crash_points.py   points where tests kill the process
logs.py           logging, with a rate limit for recurring faults
stop_signals.py   SIGTERM and SIGINT before the event loop has handlers
hosts.py          which host names only this machine can reach
descriptors.py    the limit of open files
embedded/         PostgreSQL and Valkey from wheels, for machines that have neither

An order goes api -> store -> workers -> execution -> chains, and its steps come back store -> events -> api.
Start reading at ``execution/engine.py``.
"""
