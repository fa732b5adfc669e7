"""Signs transactions, sends them, and finds out what became of them.

preparation.py  what nodes are asked before a transaction is signed
recent_blockhashes.py  keeps the blockhashes of the last blocks
signer.py       signers, and the checks of what they return
keychain.py     signers outside this process, by the extra ``solana-keychain``
key_files.py    writes a new key to a file
watched.py      a wallet that is only watched, when nothing is signed
core_dumps.py   keeps a key in this process out of core dumps
sender.py       sends the same bytes to every endpoint that takes transactions
flight.py       what is known of one transaction that has been signed
tracker.py      follows all transactions in flight until their end is certain
looks.py        what one endpoint says of transactions that may have ended, for the proof
receipts.py     reads the effect of a finalized transaction

Statuses and receipts decide; the answer to a send is only a hint. docs/solana.md has the rules.
"""
