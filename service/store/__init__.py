"""PostgreSQL: the truth about every order. Only this package touches the engine's own tables.

``database`` lends connections, ``queries`` loads ``sql/``, ``group`` commits many writes at once,
``journal`` inserts and moves orders, ``claims`` starts work on them, ``orders`` reads,
``instances`` keeps the processes' heartbeats, ``migrations`` brings the schema up to date.
"""
