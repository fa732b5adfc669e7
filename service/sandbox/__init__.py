"""The sandbox: so far, what executes one Solana transaction, with doubles of the four AMM programs.

machine.py    executes one transaction in LiteSVM
runs.py       what LiteSVM answers, in terms of the original transaction
rewriting.py  rewrites a transaction for LiteSVM: swaps become transfers
messages.py   messages of all versions
budget.py     what a transaction may use and what it pays
errors.py     errors of transactions and of JSON-RPC
accounts.py   accounts with their earlier versions
doubles/      doubles of the four programs

Only the commands and ``service.app`` may import it.
"""
