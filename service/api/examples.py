"""The examples in the OpenAPI document, recorded from a real session.

``examples/`` has a file for each operation, named like it: the ``parameters``, the ``body`` and the
``responses`` by status; of several with one status, each has a name after it, such as ``200 dry run``.
``examples/problems.json`` has those of the problems that are the same everywhere.
tests/acceptance/test_examples.py records them, and checks that the service still behaves as they say.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent / "examples"
PROBLEMS = FOLDER / "problems.json"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A request, and what it is answered.

    Attributes:
        parameters: The values of parameters in the path, the query and headers, by name.
        body: The request's body; None: it has none.
        responses: The bodies of responses, by status, and by name if there are several.
    """

    parameters: Json = field(default_factory=dict)
    body: Any = None
    responses: Json = field(default_factory=dict)


def read_example(operation_id: str) -> Example:
    """Return the example of an operation; without a file it is empty."""
    path = FOLDER / f"{operation_id}.json"
    return Example(**orjson.loads(path.read_bytes())) if path.exists() else Example()


def shared_problems() -> Json:
    """Return the examples of the problems that are the same everywhere, by status."""
    found: Json = orjson.loads(PROBLEMS.read_bytes()) if PROBLEMS.exists() else {}
    return found


def add_example(operation: Json, example: Example) -> None:
    """Add an example to an operation of the document."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in example.parameters:
            parameter["example"] = example.parameters[parameter["name"]]
    if example.body is not None:
        _add(operation["requestBody"], example.body)
    for title, body in example.responses.items():
        status, _, name = title.partition(" ")
        _add(operation["responses"][status], body, name)


def _add(described: Json, body: object, name: str = "") -> None:
    [content, *_others] = described["content"].values()
    if not name:
        content["example"] = body
    else:
        content.setdefault("examples", {})[name] = {"value": body}
