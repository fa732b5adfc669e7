"""Messages of all versions, read in one way."""

from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, MessageV1
from solders.transaction import VersionedTransaction


def version_of(transaction: VersionedTransaction) -> int | str:
    """Return a transaction's version: ``legacy``, 0 or 1."""
    if isinstance(transaction.message, MessageV1):
        return 1
    return 0 if isinstance(transaction.message, MessageV0) else "legacy"


def metas_of(transaction: VersionedTransaction) -> list[AccountMeta]:
    """Return a transaction's accounts with the message's flags."""
    message, header = transaction.message, transaction.message.header
    keys = message.account_keys
    signers = header.num_required_signatures
    writable_signers = signers - header.num_readonly_signed_accounts
    first_readonly = len(keys) - header.num_readonly_unsigned_accounts
    return [
        AccountMeta(
            key,
            is_signer=place < signers,
            is_writable=place < (writable_signers if place < signers else first_readonly),
        )
        for place, key in enumerate(keys)
    ]


def instructions_of(transaction: VersionedTransaction) -> list[Instruction]:
    """Return a transaction's instructions with their accounts and the message's flags."""
    message, metas = transaction.message, metas_of(transaction)
    return [
        Instruction(
            message.account_keys[each.program_id_index], each.data, [metas[place] for place in each.accounts]
        )
        for each in message.instructions
    ]
