"""What has been committed, told to those who watch.

``redis_link`` is the way to Redis, ``channel`` carries messages between instances, ``bus`` steps of orders,
``feed`` follows single orders: every entry once, in order, whoever was too late, too early or elsewhere.
"""
