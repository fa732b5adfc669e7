"""Where the transactions of submitted orders were seen: the latest, for one version of each order."""

import pytest

from service.domain.history import Committed
from service.domain.transaction import Seen, SeenCommitment
from service.store import sightings
from service.store.sightings import Sightings

SEEN = Seen(905, SeenCommitment.PROCESSED)
LATER = Seen(905, SeenCommitment.CONFIRMED)


def step(order_id: str, sequence: int) -> Committed:
    return Committed(order_id, {"sequence": sequence, "status": "submitted", "timestamp": ""})


def test_the_latest_sighting_of_an_order_is_kept_until_its_next_step() -> None:
    kept = Sightings()
    assert kept.of("a", 4) is None
    kept.put("a", 4, SEEN)
    kept.put("a", 4, LATER)
    assert (kept.of("a", 4), kept.of("b", 4)) == (LATER, None)
    # Of another attempt, or of an entry that this instance has not read yet.
    assert kept.of("a", 5) is kept.of("a", 3) is None
    kept.put("a", 3, SEEN)
    assert kept.of("a", 4) == LATER
    kept.forget_earlier([step("a", 4), step("b", 9)])
    assert kept.of("a", 4) == LATER
    kept.forget_earlier([step("a", 5)])
    assert kept.of("a", 4) is None


def test_a_transaction_that_has_vanished_was_seen_nowhere() -> None:
    kept = Sightings()
    kept.put("a", 4, SEEN)
    kept.put("a", 4, None)
    assert kept.of("a", 4) is None


def test_the_oldest_sightings_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "_MOST", 2)
    kept = Sightings()
    for order_id in ("a", "b", "a", "c"):
        kept.put(order_id, 4, SEEN)
    assert [kept.of(order_id, 4) for order_id in ("a", "b", "c")] == [SEEN, None, SEEN]
