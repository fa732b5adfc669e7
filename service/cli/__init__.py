"""The command line, ``python -m service``.

main.py           the commands that run on a database or servers, and how errors are shown
audit.py          the options of ``audit``
keys.py           ``keys``: creates, lists, limits, rotates and revokes API keys
key_options.py    its options
pools.py          ``doctor``, ``wallet`` and ``pools``, which look at a venue
doctor.py         checks everything that trading needs
server_checks.py  checks PostgreSQL, Redis and the data folder
"""
