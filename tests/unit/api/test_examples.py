"""Every operation has an example, and every example matches its schema."""

from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from service.api.error_responses import SHARED, own_problems
from service.api.examples import FOLDER, read_example, shared_problems
from service.api.route import ApiRoute
from service.api.routes import ROUTES
from service.api.specs import documented_path
from tests.support import openapi

Json = dict[str, Any]

HTTP_ROUTES = [pytest.param(route, id=route.operation_id) for route in ROUTES]


def operation_of(route: ApiRoute) -> Json:
    operation: Json = openapi.document()["paths"][documented_path(route)][route.method.lower()]
    return operation


def check(schema: Json, value: object) -> None:
    """Check a value by a schema of the document."""
    whole = {**schema, "components": openapi.document()["components"]}
    errors = OAS31Validator(whole, format_checker=oas31_format_checker).iter_errors(value)
    assert [error.message for error in errors] == []


@pytest.mark.parametrize("route", HTTP_ROUTES)
def test_every_operation_has_an_example_of_its_request(route: ApiRoute) -> None:
    example = read_example(route.operation_id)
    parameters = {each["name"]: each for each in operation_of(route).get("parameters", [])}
    assert {name for name, each in parameters.items() if each.get("required")} <= example.parameters.keys()
    for name, value in example.parameters.items():
        check(parameters[name]["schema"], value)
    assert (example.body is not None) == (route.body is not None)
    if route.body is not None:
        check(operation_of(route)["requestBody"]["content"]["application/json"]["schema"], example.body)


@pytest.mark.parametrize("route", HTTP_ROUTES)
def test_every_operation_has_an_example_of_each_of_its_responses(route: ApiRoute) -> None:
    responses = read_example(route.operation_id).responses
    # A 503 needs a database that is away.
    expected = {response.status for response in route.responses if response.schema and response.status < 500}
    assert {int(title.partition(" ")[0]) for title in responses} == {*expected, *own_problems(route)}
    for title, body in responses.items():
        status, _, name = title.partition(" ")
        [content, *_others] = operation_of(route)["responses"][status]["content"].values()
        check(content["schema"], body)
        assert (content["examples"][name]["value"] if name else content["example"]) == body


@pytest.mark.parametrize("route", HTTP_ROUTES)
def test_responses_with_the_same_status_have_an_example_each(route: ApiRoute) -> None:
    named = [response.status for response in route.responses if response.schema and response.status < 500]
    titles = list(read_example(route.operation_id).responses)
    for status in set(named):
        assert len([title for title in titles if title.startswith(str(status))]) == named.count(status)


def test_every_problem_that_is_the_same_everywhere_has_an_example() -> None:
    problems = shared_problems()
    assert {int(status) for status in problems} == set(SHARED)
    for status, problem in problems.items():
        check({"$ref": "#/components/schemas/Problem"}, problem)
        assert problem["status"] == int(status)


def test_every_example_belongs_to_an_operation() -> None:
    names = {path.stem for path in FOLDER.glob("*.json")}
    assert names <= {"problems", *(route.operation_id for route in ROUTES)}


def test_links_name_operations_and_members_that_exist() -> None:
    by_id = {route.operation_id: route for route in ROUTES}
    links = [(response, link) for route in ROUTES for response in route.responses for link in response.links]
    assert links
    for response, link in links:
        target = operation_of(by_id[link.operation_id])
        assert link.parameter in {parameter["name"] for parameter in target["parameters"]}
        assert response.schema is not None
        assert link.member in {field.data_key for field in response.schema().fields.values()}
