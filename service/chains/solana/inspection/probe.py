"""A transaction that can never land: a memo, on a blockhash that no block has.

So it may be signed and simulated anywhere. Nothing is ever sent.
"""

from solders.hash import Hash
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from service.chains.solana.addresses import MEMO_PROGRAM
from service.chains.solana.builder import BuiltTransaction, compile_transaction
from service.chains.solana.simulation import WIDEST

NO_BLOCKHASH = Hash.default()

ANYBODY = Pubkey.from_string("1nc1nerator11111111111111111111111111111111")
"""A payer for simulations that need not succeed: whatever is sent there is burnt, so nobody has its key."""


def probe_of(wallet: Pubkey) -> BuiltTransaction:
    """Return the version 1 transaction of a wallet."""
    return compile_transaction([Instruction(MEMO_PROGRAM, b"doctor", [])], wallet, WIDEST, NO_BLOCKHASH)
