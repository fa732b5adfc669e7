"""The way to PostgreSQL: connections, statements, migrations. Knows no orders.

database.py    connections, lent to one statement at a time
session.py     one session, and the settings that are in force in it
driver.py      aiopg's connection, with its own way to wait for the socket
addresses.py   the addresses of a host's name
queries.py     the statements of sql/
batch.py       many writes as one statement
migrations.py  brings the schema up to date
leadership.py  which process leads: takes a lease, renews it, gives it up
leases.py      the table of leases: one process leads under each name
deployment.py  the id of the deployment that the database belongs to
"""
