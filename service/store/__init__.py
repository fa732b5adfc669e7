"""PostgreSQL: the truth about every order. Only this package touches the engine's own tables.

database.py    connections, lent to one statement at a time
session.py     one session, and the settings that are in force in it
driver.py      aiopg's connection, with its own way to wait for the socket
addresses.py   the addresses of a host's name
queries.py     the statements of sql/
batch.py       many writes as one statement
migrations.py  brings the schema up to date
deployment.py  the id of the deployment that the database belongs to

journal.py     inserts orders and moves them
claims.py      starts work on orders
orders.py      reads orders
resting.py     orders that wait for a trigger
endings.py     cancels and expires orders
instances.py   heartbeats of the instances, and what the dead have left
leases.py      what one instance at a time does
rate_limit.py  how many orders may start in a minute
"""
