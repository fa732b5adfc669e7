"""The order execution engine: swap orders in, the best execution across DEXs out, each order exactly once.

The map, from the outside in. Imports go down this list only:

__main__.py       the start of the command line
commands.py       serve, migrate, audit
app.py            the whole service: its parts, the API, and the order in which they start and stop
lifespan.py       starts parts in order and stops them in reverse
audit.py          checks the books against the venue's ledger
api/              REST and WebSocket: what a client sends, and what it is told
parts.py          builds the parts: storage, market, execution
triggers/         when limit and sniper orders fire
workers/          taskiq on Redis: which order is worked on when
execution/        one order's life from top to bottom, and its retries
events/           what has been committed, told to those who watch
store/            orders in PostgreSQL: the journal (group commit), claims, reads
routing/          how an amount is led through pools
chains/           where transactions execute: the interface, the paper market
redis/            the way to Redis
postgres/         the way to PostgreSQL: connections, statements, migrations
amm/              pure: the mathematics of four AMM programs
domain/           pure: orders, lifecycle, amounts, tokens, quotes, failures

What all layers may use:

settings.py       every limit, typed, from the environment
urls/             DATABASE_URL and REDIS_URL: what is honoured, what is refused, and no secret told
clock.py          the only source of time, ids and randomness
background.py     a loop that runs beside everything else
turns.py          long computations that take turns with the event loop
crash_points.py   where tests end the process
logs.py           the log, and no flood while something is away
stop_signals.py   SIGTERM and SIGINT before the event loop has handlers
descriptors.py    room for as many sockets as are wanted
embedded/         PostgreSQL and Valkey from wheels, for a machine that has neither

One order goes api -> store -> workers -> execution -> chains, and what becomes of it comes back
store -> events -> api. Start reading at ``execution/engine.py``.
"""
