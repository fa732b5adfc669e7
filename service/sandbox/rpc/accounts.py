"""Methods that read accounts."""

from collections.abc import Callable
from typing import Any

from solders.pubkey import Pubkey

from service.chains.solana.addresses import TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES, token_amount
from service.sandbox.accounts import StoredAccount
from service.sandbox.blocks import Block
from service.sandbox.chain import MAX_BEHIND
from service.sandbox.errors import CallRefusedError, invalid_params
from service.sandbox.node import Node
from service.sandbox.rpc import base58
from service.sandbox.rpc.cluster import context
from service.sandbox.rpc.encoding import account_json, token_amount_json
from service.sandbox.rpc.params import Config, Params, pubkey

MOST_ACCOUNTS = 100
_MOST_FILTERS = 4
# 128 bytes in base58.
_LONGEST_COMPARED = 175
_DECIMALS_AT = 44

Filter = Callable[[bytes], bool]


def get_account_info(node: Node, params: Params) -> dict[str, Any]:
    """Return an account."""
    key, config = params.pubkey(0), params.config(1)
    block = config.block(node)
    return context(block, account_json(node.account(key, block), config, node.reader(block)))


def get_multiple_accounts(node: Node, params: Params) -> dict[str, Any]:
    """Return up to 100 accounts of one block; with the fault ``torn``, the second half is older."""
    keys = [pubkey(text) for text in params.texts(0, "addresses", MOST_ACCOUNTS)]
    config = params.config(1)
    block = config.block(node)
    older, whole = block, len(keys)
    torn = node.faults.take("torn", "getMultipleAccounts")
    if torn is not None:
        older = node.chain.block_by(block.slot - min(torn.number("slots"), MAX_BEHIND))
        whole = len(keys) // 2
    value = [
        account_json(node.account(key, at), config, node.reader(at))
        for key, at in zip(keys, [block] * whole + [older] * (len(keys) - whole), strict=True)
    ]
    return context(block, value)


def get_program_accounts(node: Node, params: Params) -> Any:
    """Return the accounts that a program owns and that match filters."""
    program, config = params.pubkey(0), params.config(1)
    block, filters = config.block(node), filters_of(config)
    if program in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM) and not filters:
        raise CallRefusedError(-32010, f"{program} excluded from account secondary indexes")
    found = [
        {"pubkey": str(key), "account": account_json(account, config, node.reader(block))}
        for key, account in node.chain.accounts.owned_by(program, block.slot)
        if all(matches(account.data) for matches in filters)
    ]
    return context(block, found) if config.flag("withContext") else found


def filters_of(config: Config) -> list[Filter]:
    """Return the filters of a configuration."""
    given = config.items("filters")
    if len(given) > _MOST_FILTERS:
        raise invalid_params(f"Too many filters provided; max {_MOST_FILTERS}")
    return [_filter(each) for each in given]


def _filter(given: Any) -> Filter:
    match given:
        case {"dataSize": int(size)}:
            return lambda data: len(data) == size
        case {"memcmp": {"offset": int(offset), "bytes": str(text), **rest}} if offset >= 0:
            if rest.get("encoding", "base58") != "base58":
                raise invalid_params("Invalid params: the sandbox compares bytes in base58 only.")
            if len(text) > _LONGEST_COMPARED:
                raise invalid_params("Invalid params: bytes of a memcmp are at most 128.")
            try:
                wanted = base58.decode(text)
            except ValueError:
                raise invalid_params("Invalid param: Invalid") from None
            return lambda data: data[offset : offset + len(wanted)] == wanted
    raise invalid_params("Invalid params: a filter is a dataSize or a memcmp.")


def get_balance(node: Node, params: Params) -> dict[str, Any]:
    """Return an account's lamports."""
    key = params.pubkey(0)
    block = params.config(1).block(node)
    account = node.account(key, block)
    return context(block, 0 if account is None else account.lamports)


def get_token_account_balance(node: Node, params: Params) -> dict[str, Any]:
    """Return the balance of a token account."""
    key = params.pubkey(0)
    block = params.config(1).block(node)
    account = node.account(key, block)
    if account is None:
        raise invalid_params("Invalid param: could not find account")
    if not _is_token_account(account):
        raise invalid_params("Invalid param: not a Token account")
    decimals = _decimals(node, Pubkey.from_bytes(account.data[:32]), block)
    return context(block, token_amount_json(token_amount(account.data), decimals))


def get_token_accounts_by_owner(node: Node, params: Params) -> dict[str, Any]:
    """Return an owner's token accounts, of one mint or of one token program."""
    owner, wanted, config = params.pubkey(0), params.config(1), params.config(2)
    block = config.block(node)
    mint, program = wanted.text("mint"), wanted.text("programId")
    if (mint is None) is (program is None):
        raise invalid_params("Invalid params: give a mint or a programId.")
    programs = (TOKEN_PROGRAM, TOKEN_2022_PROGRAM) if program is None else (pubkey(program),)
    of_mint = b"" if mint is None else bytes(pubkey(mint))
    found = [
        {"pubkey": str(key), "account": account_json(account, config, node.reader(block))}
        for each in programs
        for key, account in node.chain.accounts.owned_by(each, block.slot)
        if _is_token_account(account)
        and account.data.startswith(of_mint)
        and account.data[32:64] == bytes(owner)
    ]
    return context(block, found)


def _is_token_account(account: StoredAccount) -> bool:
    return account.owner in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM) and len(account.data) >= TOKEN_ACCOUNT_BYTES


def _decimals(node: Node, mint: Pubkey, block: Block) -> int:
    found = node.account(mint, block)
    if found is None:
        raise invalid_params("Invalid param: could not find mint")
    return found.data[_DECIMALS_AT]
