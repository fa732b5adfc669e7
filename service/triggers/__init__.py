"""When limit and sniper orders fire.

watch.py           the loop: one instance watches the market and matches the orders
resting_orders.py  every resting order in memory, synchronised with the store
matching.py        matches resting orders with the market and fires them
market.py          changed pairs, and a pair's prices and facts, from memory
book.py            the resting limit orders, indexed by pair, amount and price
snipers.py         the resting sniper orders
facts.py           the facts that sniper conditions are checked against
pace.py            bounds how long the triggers block the event loop
"""
