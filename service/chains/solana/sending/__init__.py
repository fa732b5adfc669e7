"""Signs transactions.

signer.py      signers, and the checks of what they return
core_dumps.py  keeps a key in this process out of core dumps
"""
