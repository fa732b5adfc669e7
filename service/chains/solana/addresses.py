"""Addresses that are the same on every cluster, and addresses derived from seeds."""

from functools import lru_cache

from solders.pubkey import Pubkey

SYSTEM_PROGRAM = Pubkey.from_string("11111111111111111111111111111111")
TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED_TOKEN_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
WRAPPED_SOL = Pubkey.from_string("So11111111111111111111111111111111111111112")


# Finding one takes a hash and a test on the curve for each bump, and each pool needs the same few again.
@lru_cache(maxsize=10_000)
def derived(program: Pubkey, *seeds: bytes) -> Pubkey:
    """Return the program's address of these seeds."""
    return Pubkey.find_program_address(list(seeds), program)[0]


def associated_token_account(owner: Pubkey, mint: Pubkey, token_program: Pubkey) -> Pubkey:
    """Return the address of an owner's own account of a token."""
    return derived(ASSOCIATED_TOKEN_PROGRAM, bytes(owner), bytes(token_program), bytes(mint))
