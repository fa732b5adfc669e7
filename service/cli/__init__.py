"""The command line, ``python -m service``: a module for each command, which do not know each other.

main.py           the parser, which command runs, and how errors are shown
serve.py          serve: runs the service until a stop signal arrives
migrate.py        migrate: migrates the schema
audit.py          audit: compares every order with the venue's ledger
keys.py           keys: creates, lists, limits, rotates and revokes API keys
key_options.py    its options, and the limits that they say
sandbox.py        sandbox: the options of a local Solana chain
smoke.py          smoke: gives the smoke test its servers
doctor.py         doctor: checks everything that trading needs
server_checks.py  checks PostgreSQL, Redis and the data folder
wallet.py         wallet: makes a key, shows the wallet and what it holds
pools.py          pools: finds and checks pools
inspecting.py     opens what looks at a venue, for the three before
checks.py         prints checks
tables.py         prints tables
servers.py        the servers that a command runs on: embedded or given
event_loop.py     which event loop the long commands have
"""
