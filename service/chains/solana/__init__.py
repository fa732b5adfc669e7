"""Solana: so far the swap instructions of four programs.

tokens.py     accounts of the token programs
addresses.py  well-known and derived addresses
programs/     the swap instructions of the four AMM programs
"""
