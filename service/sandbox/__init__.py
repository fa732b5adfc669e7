"""The sandbox: a local Solana chain in this process, on loopback, with doubles of the four AMM programs.

standalone.py  runs it alone
embedded.py    runs it as a part of the service
server.py      HTTP and WebSocket, and the loop that makes slots
control.py     requests that arm faults, fork the chain and make slots
rpc/           what a node answers to JSON-RPC
node.py        one endpoint's view of the chain
faults.py      the faults of one endpoint
market.py      a trader that moves a pool before a transaction lands
keeping.py     keeps the chain in a folder, and continues it
chain_file.py  a file of records that are only appended
records.py     what is kept: accounts, blocks and forks
chain.py       slots, blocks, the blockhash window, the mempool, and forks
mempool.py     transactions that have not landed
blocks.py      blocks and the transactions in them
genesis.py     the accounts that the chain begins with
pools.py       pools of the paper market as accounts of their programs
machine.py     executes one transaction in LiteSVM
runs.py        what LiteSVM answers, in terms of the original transaction
rewriting.py   rewrites a transaction for LiteSVM: swaps become transfers
messages.py    messages of all versions
budget.py      what a transaction may use and what it pays
errors.py      errors of transactions and of JSON-RPC
accounts.py    accounts with their earlier versions
doubles/       doubles of the four programs

A whole live path can be tried here without a network or money: transactions and answers have the forms of a
real cluster, but the programs are doubles. Only ``service.cli`` and ``service.chain`` may import it.
docs/solana.md says what was proved.
"""
