"""Where orders execute.

``venue`` is the interface that every venue fits, ``router`` chooses among its pools' quotes, ``paper``
is a market that runs in the engine's own PostgreSQL and behaves like a chain.
"""
