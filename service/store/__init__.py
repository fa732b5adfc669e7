"""PostgreSQL: the truth about every order. Only this package touches the engine's own tables.

``database`` lends connections, ``queries`` loads ``sql/``, ``batch`` runs many writes as one,
``journal`` inserts and moves orders, ``claims`` starts work on them, ``orders`` reads,
``instances`` keeps the processes' heartbeats, ``migrations`` brings the schema up to date.
"""
