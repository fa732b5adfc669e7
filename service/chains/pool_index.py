"""Pools by their pairs, and the tokens that they trade."""

from collections import Counter
from collections.abc import Sequence

from service.chains.venue import PoolRef


class PoolIndex:
    """The pools that can be quoted, by pair and by token."""

    def __init__(self) -> None:
        self._by_pair: dict[tuple[str, str], list[PoolRef]] = {}
        self._traded_in: Counter[str] = Counter()

    def between(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools of a pair, ordered by id."""
        return self._by_pair.get((token_in, token_out), ())

    def trades(self, token: str) -> bool:
        """Whether some pool trades a token."""
        return self._traded_in[token] > 0

    def add(self, ref: PoolRef) -> None:
        """Add a pool that is not there yet."""
        for pair in (ref.token_a, ref.token_b), (ref.token_b, ref.token_a):
            # A new list, since a caller may be iterating over the old one.
            self._by_pair[pair] = sorted([*self.between(*pair), ref], key=lambda each: each.id)
        self._traded_in.update((ref.token_a, ref.token_b))

    def remove(self, ref: PoolRef) -> None:
        """Remove a pool."""
        for pair in (ref.token_a, ref.token_b), (ref.token_b, ref.token_a):
            left = [each for each in self._by_pair[pair] if each.id != ref.id]
            if left:
                self._by_pair[pair] = left
            else:
                del self._by_pair[pair]
        for token in ref.token_a, ref.token_b:
            self._traded_in[token] -= 1
            if not self._traded_in[token]:
                del self._traded_in[token]
