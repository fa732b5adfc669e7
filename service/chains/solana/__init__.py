"""Solana: the venue of a cluster.

The venue, by calls of nodes:

venue.py      the venue's interface to the engine
preparing.py  signs a swap's transaction, unless something speaks against it
outcomes.py   what became of a transaction, in the terms of every venue
wallet.py     what the wallet holds
options.py    how the venue is to trade
setup.py      builds the venue from the settings
lists.py      reads the lists of pools and tokens
clusters.py   the clusters' genesis hashes, and where they have the programs
rpc/          calls of nodes by JSON-RPC, with failover
auditing/     compares orders and balances with the chain
feed/         the state of pools, read from nodes
sending/      signs and sends transactions, and follows them until their end is certain
inspection/   looks at endpoints, wallet, tokens and pools before anything is traded

Its pure part:

plan.py       what a transaction is to do: legs with their pools, amounts and limits
builder.py    one version 1 transaction of a plan
simulation.py  what a simulated transaction needs: its limits, or why it would fail
fees.py       priority fees, and the most that a transaction may cost
blockhashes.py  recent blockhashes, and the one that ends a transaction's validity in time
receipt.py    what a landed transaction paid and received, from a node's answer
errors.py     errors of transactions, by program and code
tokens.py     accounts of the token programs
addresses.py  well-known and derived addresses
programs/     the swap instructions of the four AMM programs
statuses.py   what a node says of a signature
proof.py      what proves that a transaction can never land any more
payment.py    the most that a transaction may take from the wallet

docs/solana.md says what exists and what does not.
"""
