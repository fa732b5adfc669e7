"""The command ``python -m service wallet``: makes a key, and shows the wallet and what it holds."""

import argparse
import json
from pathlib import Path

from service.chains.factory import new_wallet
from service.chains.inspection import InspectionError, Inspector
from service.cli.inspecting import add_command
from service.cli.tables import print_table
from service.domain.amounts import format_amount


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line.

    ``new`` needs no settings: its ``alone`` is called instead of ``run``, with the arguments.
    """
    what = "make a key, and show the wallet and what it holds"
    wallet = commands.add_parser("wallet", help=what, description=what).add_subparsers(
        dest="wallet_command", required=True, metavar="command"
    )
    add_command(wallet, "show", "show the wallet's public key", _show)
    add_command(wallet, "balances", "show what the wallet holds of each token that may be traded", _balances)
    what = "write a new key to a file that only you can read, and print its public key"
    new = wallet.add_parser("new", help=what, description=what)
    new.add_argument("file", type=Path, metavar="FILE", help="must not exist")
    new.set_defaults(alone=_new)


def _new(arguments: argparse.Namespace) -> None:
    try:
        print(new_wallet(arguments.file.expanduser()))
    except OSError as error:
        raise InspectionError(f"{arguments.file}: {error.strerror}") from None


async def _show(inspector: Inspector, arguments: argparse.Namespace) -> bool:
    address = inspector.address()
    print(json.dumps({"address": address}) if arguments.json else address)
    return True


async def _balances(inspector: Inspector, arguments: argparse.Namespace) -> bool:
    held = await inspector.holdings()
    if arguments.json:
        shown = [
            {
                "token": each.token.symbol,
                "amount": format_amount(each.amount, each.token.decimals),
                "account": each.account,
            }
            for each in held
        ]
        print(json.dumps({"address": inspector.address(), "balances": shown}))
    else:
        amounts = [format_amount(each.amount, each.token.decimals) for each in held]
        rows = [(each.token.symbol, amount, each.account) for each, amount in zip(held, amounts, strict=True)]
        print_table([("TOKEN", "AMOUNT", "ACCOUNT"), *rows])
    return True
