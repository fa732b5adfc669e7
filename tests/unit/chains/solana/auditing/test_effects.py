"""What any transaction changed, also one that names accounts in a lookup table."""

import base64
from typing import Any

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from service.chains.solana.auditing.effects import Effect, UnreadableEffectError, read_effect

PAYER, PAID, MINT = Keypair(), Pubkey.new_unique(), Pubkey.new_unique()


def answer() -> dict[str, Any]:
    """Return a node's answer: a transfer to an account that stands in a lookup table."""
    pay = transfer(TransferParams(from_pubkey=PAYER.pubkey(), to_pubkey=PAID, lamports=7))
    table = AddressLookupTableAccount(Pubkey.new_unique(), [PAID])
    message = MessageV0.try_compile(PAYER.pubkey(), [pay], [table], Hash.default())
    assert PAID not in message.account_keys
    balance = {"mint": str(MINT), "owner": str(PAID)}
    return {
        "slot": 9,
        "transaction": [
            base64.b64encode(bytes(VersionedTransaction(message, [PAYER]))).decode(),
            "base64",
        ],
        "meta": {
            "err": None,
            "fee": 5_000,
            "loadedAddresses": {"writable": [str(PAID)], "readonly": []},
            "preBalances": [10_000, 1, 100],
            "postBalances": [4_993, 1, 107],
            "preTokenBalances": [],
            "postTokenBalances": [{**balance, "accountIndex": 2, "uiTokenAmount": {"amount": "3"}}],
        },
    }


def test_accounts_of_a_lookup_table_count() -> None:
    effect = read_effect(answer())
    assert isinstance(effect, Effect)
    assert effect.slot == 9
    assert effect.signers == {str(PAYER.pubkey())}
    assert effect.lamports[str(PAYER.pubkey())] == -5_007
    assert effect.lamports[str(PAID)] == 7
    assert effect.tokens == {str(PAID): 3}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda given: given.update(meta=None),
        lambda given: given.update(transaction=["AAAA", "base64"]),
        lambda given: given.update(transaction={}),
        lambda given: given.update(slot=None),
        lambda given: given["meta"].update(loadedAddresses=None),
        lambda given: given["meta"].update(postBalances=[1]),
        lambda given: given["meta"].update(preTokenBalances=None),
        lambda given: given["meta"]["postTokenBalances"][0].update(accountIndex=3),
        lambda given: given["meta"]["postTokenBalances"][0].update(uiTokenAmount={"amount": "a lot"}),
    ],
)
def test_an_answer_that_does_not_tell_everything_is_refused(spoil: Any) -> None:
    given = answer()
    spoil(given)
    with pytest.raises(UnreadableEffectError):
        read_effect(given)


@pytest.mark.parametrize("given", [None, [], "text", {}])
def test_no_answer_is_refused(given: Any) -> None:
    with pytest.raises(UnreadableEffectError):
        read_effect(given)
