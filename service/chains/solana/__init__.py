"""Solana: so far the pure part of a venue. It builds transactions and reads what they did; none is sent.

plan.py       what a transaction is to do: legs with their pools, amounts and limits
builder.py    one version 1 transaction of a plan
receipt.py    what a landed transaction paid and received, from a node's answer
errors.py     errors of transactions, by program and code
tokens.py     accounts of the token programs
addresses.py  well-known and derived addresses
programs/     the swap instructions of the four AMM programs

docs/solana.md says what exists and what does not.
"""
