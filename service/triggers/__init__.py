"""When limit and sniper orders fire.

watch.py    the loop: who watches, what has changed, what fires
market.py   what has changed, prices and facts of a pair, from memory
book.py     the limit orders that rest, indexed by pair, amount and price
snipers.py  the sniper orders that rest
facts.py    what sniper conditions are held against
seen.py     what was seen, for people
"""
