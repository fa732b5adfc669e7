"""Publishes committed changes, prices and quotes to watchers on every instance.

bus.py            carries the steps of orders between instances
feed.py           one order's steps for its watchers: every entry once, in order
pump.py           the events of all orders, for the sockets on this instance
event_reader.py   reads them, page by page
message_queue.py  what waits for one of these sockets
market_feed.py    prices and best quotes for their watchers: the newest only
"""
