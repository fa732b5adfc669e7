"""When limit and sniper orders fire.

book.py     the limit orders that rest, indexed by pair, amount and price
ceiling.py  what a pair's pools can pay at most for any amount, which tells whom not to quote
prices.py   a pair's prices at one moment: the ceiling, and exact quotes
facts.py    what sniper conditions are held against
"""
