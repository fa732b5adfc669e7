"""Compares the orders with the chain, and the wallet's balances with the orders.

It reads the database and the nodes, and changes neither; nothing of a running service is needed.

audit.py        the whole comparison, from the first question to the report
stored.py       orders and their transactions, as stored, page by page
nodes.py        asks nodes patiently, and each one if the first does not know
evidence.py     what the nodes know of transactions
verdicts.py     compares an order with that
strangers.py    transactions of the wallet that belong to no order
effects.py      how such a transaction changed accounts
balances.py     what the wallet must hold, and what it holds
results.py      what has been found so far
"""
