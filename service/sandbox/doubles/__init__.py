"""Doubles of four AMM programs: what a swap does, without the program.

double.py    checks an instruction as its program does, and works out the swap
programs.py  the four programs: their codes, and the accounts that a swap writes
staged.py    accounts as earlier instructions of a transaction leave them

docs/solana.md says how they were compared with the real programs.
"""
