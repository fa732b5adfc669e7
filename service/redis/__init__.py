"""Access to Redis. No data in it needs to survive.

link.py     detects whether Redis is usable, and sends commands without waiting
channel.py  messages between instances
"""
