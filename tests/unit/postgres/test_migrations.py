"""The migrations' numbers: 1, 2, 3 ..., as every start requires, checked without a database."""

from service.postgres.migrations import load


def test_every_migration_has_its_number() -> None:
    assert [migration.version for migration in load()] == list(range(1, len(load()) + 1))
