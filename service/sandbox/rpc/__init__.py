"""The JSON-RPC interface of the sandbox chain: what a node answers.

methods.py        the methods by name, and the answer to a call
cluster.py        methods about the cluster and its blocks
accounts.py       methods that read accounts
sending.py        methods that send and simulate transactions
history.py        methods that tell what became of transactions
subscriptions.py  what a WebSocket connection is told after each block
wire.py           transactions as clients send them
params.py         parameters with their types
encoding.py       the JSON of accounts and transactions
base58.py         bytes as nodes write them by default
"""
