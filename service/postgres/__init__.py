"""Access to PostgreSQL: connections, statements, migrations. Does not know orders.

database.py    a connection pool; each connection runs one statement at a time
session.py     one session and its settings
driver.py      aiopg's connection, with its own socket handling
addresses.py   resolves host names
queries.py     the statements of sql/
batch.py       group commit: many writes as one statement
migrations.py  migrates the schema
leadership.py  which process leads: takes a lease, renews it, gives it up
leases.py      the table of leases: one process leads under each name
deployment.py  the deployment's id
"""
