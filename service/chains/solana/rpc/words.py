"""What a node writes, made fit for logs and errors: short, on one line, without keys and addresses.

Nobody knows what a node writes. It may repeat the URL that it was called by, or that of another service, and
its provider's advertisement.
"""

import re
from collections.abc import Iterable
from typing import Any

from service.chains.solana.rpc.urls import RpcUrl

LONGEST_WORDS = 200
"""How many characters of a node's text are shown."""

# More than are shown, since a text gets shorter, and few enough to search.
_LONGEST_READ = 10_000
_DEEPEST = 8
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


class NodeWords:
    """Makes what any of the nodes writes fit to be shown.

    Args:
        urls: All URLs of the settings: one node may repeat the key of another one.
    """

    def __init__(self, urls: Iterable[RpcUrl]) -> None:
        found = {secret for url in urls for secret in url.secrets()}
        self._secrets = sorted(found, key=len, reverse=True)

    def shown(self, text: str) -> str:
        """Return a text as it may be shown."""
        read = text[:_LONGEST_READ]
        for secret in self._secrets:
            read = read.replace(secret, "***")
        if len(text) > _LONGEST_READ and self._secrets:
            # The end may be a part of a key.
            read = read[: -len(self._secrets[0])]
        read = _URL.sub("(a URL)", read)
        words = " ".join("".join(each if each.isprintable() else " " for each in read).split())
        return words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]}..."

    def shown_data(self, value: Any, depth: int = 0) -> Any:
        """Return JSON with its texts as they may be shown; null in place of what is nested too deeply."""
        if depth > _DEEPEST:
            return None
        match value:
            case str():
                return self.shown(value)
            case list():
                return [self.shown_data(each, depth + 1) for each in value]
            case dict():
                return {self.shown(name): self.shown_data(each, depth + 1) for name, each in value.items()}
        return value
