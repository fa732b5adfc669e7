"""Looks at a Solana venue before it trades: endpoints, cluster, wallet, tokens, pools. It trades nothing.

inspector.py  the interface of every inspector
subject.py    what is inspected, from the settings
endpoints.py  each endpoint: cluster, lag, version 1, history, calls per second, sends
cluster.py    the programs, the clock, Alpenglow, and whether the endpoints are enough
wallet.py     the signer, its SOL, and what it holds
tokens.py     mints, compared with the list
pools.py      reads listed pools once, and says what they hold and charge
trials.py     quotes a pool both ways, and simulates a swap in it
discovery.py  finds the pools of a pair
probe.py      a transaction that can never land, for signers and simulations
"""
