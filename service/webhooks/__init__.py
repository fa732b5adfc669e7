"""Delivers the changes of orders to the webhook endpoints of their accounts.

addresses.py  which URLs and addresses may be called
sender.py     signs a message and posts it
deliverer.py  sends what is due: at least once, and in order for each order
"""
