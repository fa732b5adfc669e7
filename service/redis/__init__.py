"""The way to Redis. Nothing in it needs to survive.

link.py     whether Redis can be used, and commands that are not waited for
channel.py  messages between instances
"""
