"""What has been committed, told to those who watch.

redis_link.py  the way to Redis: whether it can be used, and commands that are not waited for
channel.py     messages between instances
bus.py         steps of orders
feed.py        one order's steps: every entry once, in order
"""
