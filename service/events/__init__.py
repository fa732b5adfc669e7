"""What has been committed, told to those who watch.

bus.py   steps of orders, from instance to instance
feed.py  one order's steps: every entry once, in order
"""
