"""Builds one version 1 transaction of a plan: the whole swap or nothing.

Its instructions, in this sequence:

1. If SOL is involved, an account for wrapped SOL that exists only inside this transaction. It does not touch
   the user's own wrapped SOL, needs no lock between concurrent orders, and what is not spent returns as SOL.
2. The wallet's accounts of the tokens that legs receive, created if they do not exist.
3. The legs, path by path.
4. The close of the account for wrapped SOL.
5. A memo with the attempt's mark. Without it, two equal orders on one blockhash could have the same bytes, so
   the same signature, and one landing would be taken for both.

Version 1 (SIMD-0385) has no instructions for fees and limits: they are in the message. The priority fee is a
total in lamports. A limit that is not set is zero there, so all of them are set.
"""

import hashlib
import struct
from dataclasses import dataclass

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV1, TransactionConfig, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import CreateAccountWithSeedParams, create_account_with_seed

from service.chains.solana.addresses import (
    ASSOCIATED_TOKEN_PROGRAM,
    MEMO_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    WRAPPED_SOL,
    associated_token_account,
)
from service.chains.solana.plan import InvalidPlanError, PlannedLeg, SwapPlan
from service.chains.solana.programs.pool import TokenSide, UserAccounts, readonly, signer, writable
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES
from service.domain.amounts import U64_MAX

MAX_BYTES = 4_096
MAX_ACCOUNTS = 64
MAX_INSTRUCTIONS = 64
MAX_COMPUTE_UNITS = 1_400_000
MAX_LOADED_BYTES = 64 * 1024 * 1024
LAMPORTS_PER_SIGNATURE = 5_000

_INITIALIZE_ACCOUNT_3 = 18
_CLOSE_ACCOUNT = 9
_CREATE_IDEMPOTENT = 1


class TransactionTooLargeError(Exception):
    """The transaction exceeds a limit of the chain: the route has too many legs."""


@dataclass(frozen=True, slots=True)
class ComputeBudget:
    """What a transaction may use, and what it pays for being preferred.

    Attributes:
        compute_units: 1 to 1,400,000.
        loaded_bytes: How many bytes its accounts and programs may have together, 1 to 64 MiB.
        priority_fee: Lamports in all, not for each unit.
    """

    compute_units: int
    loaded_bytes: int
    priority_fee: int

    def __post_init__(self) -> None:
        """Check the ranges: a limit of zero would make every transaction fail."""
        if not 1 <= self.compute_units <= MAX_COMPUTE_UNITS:
            raise ValueError(f"{self.compute_units} compute units")
        if not 1 <= self.loaded_bytes <= MAX_LOADED_BYTES:
            raise ValueError(f"{self.loaded_bytes} bytes of loaded accounts")
        if not 0 <= self.priority_fee <= U64_MAX:
            raise ValueError(f"a priority fee of {self.priority_fee} lamports")

    @property
    def config(self) -> TransactionConfig:
        """The message's configuration, with every value that is zero if not set."""
        return TransactionConfig(
            priority_fee=self.priority_fee,
            compute_unit_limit=self.compute_units,
            loaded_accounts_data_size_limit=self.loaded_bytes,
        )


@dataclass(frozen=True, slots=True)
class BuiltTransaction:
    """A transaction to sign.

    Attributes:
        message: The message.
        signed_bytes: The bytes to sign; the transaction is these and then the signature.
        network_fee: Lamports that it costs, whether it succeeds or fails.
        wrapped_sol: The address of its own account for wrapped SOL; None if no leg needs it.
    """

    message: MessageV1
    signed_bytes: bytes
    network_fee: int
    wrapped_sol: Pubkey | None

    @property
    def size(self) -> int:
        """Its bytes on the wire, with the signature."""
        return len(self.signed_bytes) + Signature.LENGTH


def mark_of(order_id: str, attempt: int) -> str:
    """Return the mark of an order's attempt: 16 hexadecimal digits, from which the order cannot be told."""
    return hashlib.sha256(f"{order_id}/{attempt}".encode()).hexdigest()[:16]


def build(
    plan: SwapPlan,
    wallet: Pubkey,
    mark: str,
    budget: ComputeBudget,
    blockhash: Hash,
    token_account_rent: int,
) -> BuiltTransaction:
    """Build the transaction of a plan.

    Args:
        plan: The legs with their limits.
        wallet: The wallet that signs, pays and receives.
        mark: The attempt's mark, from ``mark_of``.
        budget: The limits and the priority fee.
        blockhash: A recent blockhash.
        token_account_rent: Lamports that make a token account rent-exempt; ask a node, it changes.

    Raises:
        InvalidPlanError: The plan cannot be executed.
        TransactionTooLargeError: It has too many bytes, accounts or instructions.
    """
    plan.check()
    return compile_transaction(
        instructions(plan, wallet, mark, token_account_rent),
        wallet,
        budget,
        blockhash,
        _wrapped_sol(plan, wallet, mark),
    )


def compile_transaction(
    all_instructions: list[Instruction],
    wallet: Pubkey,
    budget: ComputeBudget,
    blockhash: Hash,
    wrapped_sol: Pubkey | None = None,
) -> BuiltTransaction:
    """Compile instructions into a transaction that the chain accepts.

    Raises:
        TransactionTooLargeError: It has too many bytes, accounts or instructions.
    """
    if len(all_instructions) > MAX_INSTRUCTIONS:
        raise TransactionTooLargeError(f"{len(all_instructions)} instructions, at most {MAX_INSTRUCTIONS}")
    keys = {wallet} | {each.program_id for each in all_instructions}
    keys.update(meta.pubkey for each in all_instructions for meta in each.accounts)
    if len(keys) > MAX_ACCOUNTS:
        raise TransactionTooLargeError(f"{len(keys)} accounts, at most {MAX_ACCOUNTS}")
    message = MessageV1.try_compile(wallet, all_instructions, blockhash, budget.config)
    signatures = message.header.num_required_signatures
    built = BuiltTransaction(
        message,
        to_bytes_versioned(message),
        LAMPORTS_PER_SIGNATURE * signatures + budget.priority_fee,
        wrapped_sol,
    )
    if built.size > MAX_BYTES:
        raise TransactionTooLargeError(f"{built.size} bytes, at most {MAX_BYTES}")
    return built


def instructions(plan: SwapPlan, wallet: Pubkey, mark: str, token_account_rent: int) -> list[Instruction]:
    """Return the instructions of a plan; the module says which and why."""
    wrapped = _wrapped_sol(plan, wallet, mark)
    result: list[Instruction] = []
    if wrapped is not None:
        result += _open_wrapped(wrapped, wallet, mark, _lamports_to_wrap(plan, token_account_rent))
    bought = {leg.bought.mint: leg.bought for leg in plan.legs if leg.bought.mint != WRAPPED_SOL}
    result += [create_token_account(wallet, token) for token in bought.values()]
    for leg in plan.legs:
        user = UserAccounts(
            wallet, _account(leg.sold, wallet, wrapped), _account(leg.bought, wallet, wrapped)
        )
        result.append(leg.pool.instruction(leg.swap, user))
    if wrapped is not None:
        result.append(
            Instruction(
                TOKEN_PROGRAM, bytes([_CLOSE_ACCOUNT]), [writable(wrapped), writable(wallet), signer(wallet)]
            )
        )
    result.append(Instruction(MEMO_PROGRAM, mark.encode(), []))
    return result


def _uses_sol(leg: PlannedLeg) -> bool:
    return WRAPPED_SOL in (leg.sold.mint, leg.bought.mint)


def _wrapped_sol(plan: SwapPlan, wallet: Pubkey, mark: str) -> Pubkey | None:
    if not any(_uses_sol(leg) for leg in plan.legs):
        return None
    return Pubkey.create_with_seed(wallet, mark, TOKEN_PROGRAM)


def _lamports_to_wrap(plan: SwapPlan, rent: int) -> int:
    """Return the lamports that the account must hold: its rent, and what first legs may sell of it."""
    sold = sum(path[0].swap.amount_in for path in plan.paths if path[0].sold.mint == WRAPPED_SOL)
    if rent + sold > U64_MAX:
        raise InvalidPlanError(f"{sold} lamports to sell")
    return rent + sold


def _account(token: TokenSide, wallet: Pubkey, wrapped: Pubkey | None) -> Pubkey:
    """Return the wallet's account of a token."""
    if token.mint == WRAPPED_SOL and wrapped is not None:
        return wrapped
    return associated_token_account(wallet, token.mint, token.program)


def _open_wrapped(account: Pubkey, wallet: Pubkey, mark: str, lamports: int) -> list[Instruction]:
    create = create_account_with_seed(
        CreateAccountWithSeedParams(
            from_pubkey=wallet,
            to_pubkey=account,
            base=wallet,
            seed=mark,
            lamports=lamports,
            space=TOKEN_ACCOUNT_BYTES,
            owner=TOKEN_PROGRAM,
        )
    )
    data = struct.pack("<B32s", _INITIALIZE_ACCOUNT_3, bytes(wallet))
    initialize = Instruction(TOKEN_PROGRAM, data, [writable(account), readonly(WRAPPED_SOL)])
    return [create, initialize]


def create_token_account(wallet: Pubkey, token: TokenSide) -> Instruction:
    """Return the instruction that creates the wallet's account of a token, if it does not exist."""
    accounts = [
        AccountMeta(wallet, is_signer=True, is_writable=True),
        writable(associated_token_account(wallet, token.mint, token.program)),
        readonly(wallet),
        readonly(token.mint),
        readonly(SYSTEM_PROGRAM),
        readonly(token.program),
    ]
    return Instruction(ASSOCIATED_TOKEN_PROGRAM, bytes([_CREATE_IDEMPOTENT]), accounts)
