"""The route table: what every row must have."""

import pytest

from service.api.route import ApiRoute
from service.api.routes import ROUTES
from tests.support import openapi


def _name(route: ApiRoute) -> str:
    return route.operation_id


def _statuses(route: ApiRoute) -> set[str]:
    """Return the statuses that the document lists for a route."""
    [operation] = [
        operation
        for operations in openapi.document()["paths"].values()
        for operation in operations.values()
        if operation["operationId"] == route.operation_id
    ]
    return set(operation["responses"])


def test_a_method_of_a_path_has_one_row() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_rows_of_one_path_are_adjacent() -> None:
    # Otherwise aiohttp treats them as separate resources, and a 405 does not name all methods.
    paths = [route.path for route in ROUTES]
    assert sorted(set(paths), key=paths.index) == [
        path for number, path in enumerate(paths) if number == 0 or paths[number - 1] != path
    ]


@pytest.mark.parametrize("route", [route for route in ROUTES if route.body], ids=_name)
def test_the_statuses_that_reject_a_body_are_documented(route: ApiRoute) -> None:
    assert _statuses(route) >= {"400", "413", "415", "422"}


@pytest.mark.parametrize("route", [route for route in ROUTES if route.query], ids=_name)
def test_the_status_that_rejects_a_query_is_documented(route: ApiRoute) -> None:
    assert "422" in _statuses(route)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.at_most], ids=_name)
def test_the_status_of_a_full_queue_is_documented(route: ApiRoute) -> None:
    assert "503" in _statuses(route)
