"""The JSON of accounts and transactions, as nodes write it."""

import base64
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from solders.pubkey import Pubkey

from service.chains.solana.addresses import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES, token_amount
from service.sandbox.accounts import StoredAccount
from service.sandbox.blocks import Balances, Landed
from service.sandbox.errors import CallRefusedError, invalid_params
from service.sandbox.machine import ExecutionResult
from service.sandbox.rpc import base58
from service.sandbox.rpc.params import Config

Read = Callable[[Pubkey], StoredAccount | None]

RENT_EPOCH = 2**64 - 1
_LONGEST_BASE58 = 128
_MINT_BYTES, _SUPPLY_AT, _DECIMALS_AT, _NATIVE_AT = 82, 36, 44, 109
_PARSED_PROGRAMS = {TOKEN_PROGRAM: "spl-token", TOKEN_2022_PROGRAM: "spl-token-2022"}

CLOSED = StoredAccount(0, SYSTEM_PROGRAM)
"""What subscribers see of an account that is gone."""


def account_json(account: StoredAccount | None, config: Config, read: Read) -> dict[str, Any] | None:
    """Return an account's JSON; None if there is none.

    Args:
        account: The account.
        config: Its ``encoding`` and ``dataSlice``.
        read: Returns other accounts, such as the mint of a token account.
    """
    if account is None:
        return None
    encoding = config.text("encoding") or "binary"
    parsed = _parsed(account, read) if encoding == "jsonParsed" else None
    return {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "data": parsed or _data_json(account.data, encoding, config.part("dataSlice")),
        "executable": account.executable,
        "rentEpoch": RENT_EPOCH,
        "space": len(account.data),
    }


def _data_json(data: bytes, encoding: str, part: Config | None) -> Any:
    if part is not None:
        offset, length = part.number("offset"), part.number("length")
        if offset is None or length is None:
            raise invalid_params("Invalid params: dataSlice has an offset and a length.")
        data = data[offset : offset + length]
    if encoding in ("base64", "jsonParsed"):
        return [base64.b64encode(data).decode(), "base64"]
    if encoding not in ("binary", "base58"):
        raise invalid_params(f"Invalid params: the sandbox has no encoding `{encoding}`.")
    if len(data) > _LONGEST_BASE58:
        raise CallRefusedError(
            -32600,
            "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.",
        )
    text = base58.encode(data)
    return text if encoding == "binary" else [text, "base58"]


def _parsed(account: StoredAccount, read: Read) -> dict[str, Any] | None:
    """Return a token account or a mint, parsed; None for any other account."""
    program, data = _PARSED_PROGRAMS.get(account.owner), account.data
    if program is None or account.executable:
        return None
    if len(data) == TOKEN_ACCOUNT_BYTES:
        mint = Pubkey.from_bytes(data[:32])
        found = read(mint)
        if found is None:
            return None
        info: dict[str, Any] = {
            "isNative": data[_NATIVE_AT] == 1,
            "mint": str(mint),
            "owner": str(Pubkey.from_bytes(data[32:64])),
            "state": "initialized",
            "tokenAmount": token_amount_json(token_amount(data), found.data[_DECIMALS_AT]),
        }
        kind = "account"
    elif len(data) == _MINT_BYTES:
        supply = int.from_bytes(data[_SUPPLY_AT : _SUPPLY_AT + 8], "little")
        info = {
            "decimals": data[_DECIMALS_AT],
            "freezeAuthority": None,
            "isInitialized": True,
            "mintAuthority": None,
            "supply": str(supply),
        }
        kind = "mint"
    else:
        return None
    return {"program": program, "parsed": {"info": info, "type": kind}, "space": len(data)}


def token_amount_json(amount: int, decimals: int) -> dict[str, Any]:
    """Return an amount of a token: exact as texts, and as the number that some clients show."""
    exact = Decimal(amount).scaleb(-decimals)
    text = f"{exact:f}"
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": float(exact),
        "uiAmountString": text.rstrip("0").rstrip(".") if "." in text else text,
    }


def transaction_json(landed: Landed, encoding: str) -> Any:
    """Return a transaction in an encoding."""
    if encoding == "base64":
        return [base64.b64encode(landed.raw).decode(), "base64"]
    if encoding == "base58":
        return [base58.encode(landed.raw), "base58"]
    if encoding != "json":
        raise invalid_params(f"Invalid params: the sandbox has no encoding `{encoding}`.")
    message = landed.transaction.message
    header = message.header
    return {
        "signatures": [str(each) for each in landed.transaction.signatures],
        "message": {
            "header": {
                "numRequiredSignatures": header.num_required_signatures,
                "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
                "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
            },
            "accountKeys": [str(key) for key in message.account_keys],
            "recentBlockhash": str(message.recent_blockhash),
            "instructions": [
                {
                    "programIdIndex": each.program_id_index,
                    "accounts": list(each.accounts),
                    "data": base58.encode(each.data),
                    "stackHeight": 1,
                }
                for each in message.instructions
            ],
        },
    }


def meta_json(landed: Landed) -> dict[str, Any]:
    """Return a transaction's metadata."""
    execution = landed.execution
    error = execution.error
    return {
        "err": error,
        "status": {"Ok": None} if error is None else {"Err": error},
        "fee": execution.budget.fee,
        "preBalances": list(landed.before.lamports),
        "postBalances": list(landed.after.lamports),
        "preTokenBalances": token_balances_json(landed.before),
        "postTokenBalances": token_balances_json(landed.after),
        "innerInstructions": inner_json(execution),
        "logMessages": execution.logs,
        "rewards": [],
        "loadedAddresses": {"writable": [], "readonly": []},
        "computeUnitsConsumed": execution.units,
    }


def inner_json(execution: ExecutionResult) -> list[dict[str, Any]]:
    """Return what the instructions of a transaction called."""
    return [
        {
            "index": index,
            "instructions": [
                {
                    "programIdIndex": call.program,
                    "accounts": list(call.accounts),
                    "data": base58.encode(call.data),
                    "stackHeight": call.depth,
                }
                for call in calls
            ],
        }
        for index, calls in sorted(execution.inner.items())
    ]


def token_balances_json(balances: Balances) -> list[dict[str, Any]]:
    """Return the token balances of a transaction's accounts."""
    return [
        {
            "accountIndex": each.place,
            "mint": str(each.mint),
            "owner": str(each.owner),
            "programId": str(each.program),
            "uiTokenAmount": token_amount_json(each.amount, each.decimals),
        }
        for each in balances.tokens
    ]
