"""Publishes committed changes to watchers on every instance.

bus.py   carries the steps of orders between instances
feed.py  one order's steps for its watchers: every entry once, in order
"""
