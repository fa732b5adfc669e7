"""How fast Solana's mainnet is: the paper market's defaults.

Each value has its source; whoever changes one gives its source and date. A market keeps the slot length that
it was created with.
"""

SLOT_MS = 200
"""A slot's length, since the last of four steps from 400 ms, in August 2026 with Agave 4.2.

Sources: solana.com/upgrades, and helius.dev/blog/agave-v4-4; checked in November 2026.
"""

VALID_SLOTS = 150
"""How long a transaction can land: its blockhash is recent for 150 blocks, about 30 s.

Source: SIMD-0525, which leaves the number as it was with slots of 400 ms; checked in November 2026.
"""

LANDING_MS = "2000-3000"
"""How long a transaction takes to land, as a setting: chosen, not measured.

An ordinary one takes 1 to 10 s, by its priority fee and the load of the network.
"""
