"""A market on paper: pools, a ledger and slots in PostgreSQL that behave like a chain's.

It stands behind a wire: connections and commits of its own, tables that no key joins to the engine's.
What it promises is what a chain promises: a signature lands at most once, never after its last valid
slot, and never for less than its minimum.

``venue`` is what the engine sees, ``chain`` executes transactions slot by slot, ``ledger`` talks SQL,
``market`` founds the pools, ``constant_product`` is their mathematics, ``transaction`` their wire format.
"""
