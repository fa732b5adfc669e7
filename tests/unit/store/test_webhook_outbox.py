"""Every statement that changes an order tells its webhooks."""

from service.postgres.queries import SQL_FOLDER, load


def test_every_statement_that_appends_to_a_history_queues_the_change() -> None:
    appending = {query.name for query in load(SQL_FOLDER).values() if "appended(" in query.sql}
    assert len(appending) >= 7
    for query in load(SQL_FOLDER).values():
        assert ("INSERT INTO webhook_deliveries" in query.sql) == (query.name in appending), query.name
