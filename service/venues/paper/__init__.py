"""A market on paper: pools, a ledger and slots in PostgreSQL that behave like a chain's.

It stands behind a wire: connections and commits of its own, tables that no key joins to the engine's.
What it promises is what a chain promises: a signature lands at most once, never after its last valid
slot, and never for less than its minimum.

``venue`` is what the engine sees; ``founding`` and ``listing`` make pools; ``chain`` elects a ``leader``,
which executes transactions and ``commands`` on a ``market`` in memory, slot by slot. ``ledger`` and
``command_queue`` talk SQL, ``news`` tells other instances, ``catalogue`` is what each of them quotes from.
"""
