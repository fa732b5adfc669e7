"""How a transaction of any kind changed accounts, from a node's answer to getTransaction."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solders.transaction import VersionedTransaction


class UnreadableEffectError(Exception):
    """The answer does not tell what the transaction changed."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a transaction changed.

    Attributes:
        slot: Where it landed.
        signers: The accounts that signed it.
        lamports: The changes by account.
        tokens: The changes by token account, in base units.
    """

    slot: int
    signers: frozenset[str]
    lamports: Mapping[str, int]
    tokens: Mapping[str, int]


def read_effect(answer: Any) -> Effect:
    """Read a node's answer in base64 encoding.

    Raises:
        UnreadableEffectError: It does not tell everything.
    """
    try:
        transaction = VersionedTransaction.from_bytes(base64.b64decode(answer["transaction"][0]))
        meta = answer["meta"]
        message = transaction.message
        keys = [str(key) for key in message.account_keys]
        signers = frozenset(keys[: message.header.num_required_signatures])
        loaded = meta.get("loadedAddresses") or {}
        keys += [*loaded.get("writable", ()), *loaded.get("readonly", ())]
        before, after = meta["preBalances"], meta["postBalances"]
        lamports = {
            key: int(later) - int(earlier) for key, earlier, later in zip(keys, before, after, strict=True)
        }
        tokens = dict.fromkeys(_token_accounts(meta, keys), 0)
        for when, sign in (("pre", -1), ("post", 1)):
            for each in meta[f"{when}TokenBalances"]:
                tokens[keys[each["accountIndex"]]] += sign * int(each["uiTokenAmount"]["amount"])
        return Effect(int(answer["slot"]), signers, lamports, tokens)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableEffectError(f"the node's answer is malformed: {error!r}") from error


def _token_accounts(meta: Mapping[str, Any], keys: Sequence[str]) -> set[str]:
    return {keys[each["accountIndex"]] for when in ("pre", "post") for each in meta[f"{when}TokenBalances"]}
