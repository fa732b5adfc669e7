"""When limit and sniper orders fire.

watch.py           the loop: which instance watches, and when it looks
resting_orders.py  every resting order in memory, in step with the store
matching.py        what fires
market.py          what has changed, prices and facts of a pair, from memory
book.py            the limit orders that rest, indexed by pair, amount and price
snipers.py         the sniper orders that rest
facts.py           what sniper conditions are held against
pace.py            how long all of this holds the event loop
seen.py            what was seen, for people
"""
