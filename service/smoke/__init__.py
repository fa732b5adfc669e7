"""The smoke test: trades small amounts on a Solana cluster as a user would, and kills the service in between.

steps.py      the test from the first step to the report
options.py    what is asked for, and the settings that follow from it
rig.py        the local chain, the endpoints, and the instances of the service that it starts
processes.py  commands of the service in processes of their own
client.py     a client of an instance
pinned.py     routes through chosen pools
trading.py    starts, funds, swaps each way, a split
recovery.py   what a kill leaves behind: it lands once, or expires with a proof
report.py     what was found, as Markdown

It creates no pools, and uses nothing of the user's but the wallet, the endpoints, and the lists of pools and
tokens. docs/solana.md says what it does.
"""
