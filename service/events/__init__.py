"""What has been committed, told to those who watch.

``redis_link`` is the connection to Redis, ``bus`` carries steps between instances, ``feed`` follows single
orders: every entry once, in order, whoever was too late, too early or elsewhere.
"""
