"""Publishes committed changes, prices and quotes to watchers on every instance.

bus.py          carries the steps of orders between instances
feed.py         one order's steps for its watchers: every entry once, in order
market_feed.py  prices and best quotes for their watchers: the newest only
"""
