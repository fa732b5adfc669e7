"""docs/solana.md names what the sandbox has, and nothing else."""

import argparse
import re
from pathlib import Path

from service.cli import sandbox
from service.sandbox.faults import GARBAGE, KINDS
from service.sandbox.rpc.methods import METHODS
from service.sandbox.rpc.subscriptions import TOPICS

TEXT = (Path(__file__).parents[3] / "docs" / "solana.md").read_text()
BY_REQUEST = {
    "fork": {"depth", "keep"},
    "skip": {"slots"},
    "move_pool": {"bps", "times"},
}
"""The kinds that are not an endpoint's."""


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_every_method_and_subscription_is_named() -> None:
    [told] = re.findall(r"^- \*\*Methods\*\*: (.*?)\. Accounts", TEXT, re.MULTILINE | re.DOTALL)
    assert names(told) == {*METHODS, *(f"{topic}Subscribe" for topic in TOPICS)}


def test_every_kind_of_fault_is_explained_with_its_arguments() -> None:
    section = TEXT.partition("\n### Faults of the sandbox\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S.*?) \|(.*)\|$", section, re.MULTILINE)
    told = {kind: names(arguments) for kind, _meaning, arguments in rows}
    assert told == {**{kind: set(arguments) for kind, arguments in KINDS.items()}, **BY_REQUEST}
    [garbage] = [meaning for kind, meaning, _arguments in rows if kind == "garbage"]
    assert names(garbage) == set(GARBAGE)


def test_every_option_is_explained_with_its_default() -> None:
    parser = argparse.ArgumentParser()
    sandbox.add_to(parser.add_subparsers())
    parsed = vars(parser.parse_args(["sandbox"]))
    rows = re.findall(r"^\| `--([a-z-]+)` \| (\d*) ?\|", TEXT, re.MULTILINE)
    told = {name.replace("-", "_"): int(default) if default else None for name, default in rows}
    assert told == {name: value for name, value in parsed.items() if name != "run"}
