"""Names of classes: each name means one thing."""

import ast
from collections import defaultdict
from pathlib import Path

import service

TESTS = Path(__file__).parents[1]
SERVICE = Path(service.__file__).parent

SHARED = {
    "Chain",
    "Connection",
    "Execution",
    "Fill",
    "Kind",
    "Market",
    "Outcomes",
    "Range",
    "RefusedError",
    "Server",
    "Swap",
}
"""Names that classes of several packages of the service still share. Remove a name when it is unique."""


def shared_names(folder: Path, *, public_only: bool) -> dict[str, list[str]]:
    """Return the names that several classes of a folder's modules share, with their places."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not (public_only and node.name.startswith("_")):
                places[node.name].append(f"{path.relative_to(folder)}:{node.lineno}")
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_two_classes_of_the_tests_share_a_name() -> None:
    assert shared_names(TESTS, public_only=False) == {}


def test_no_more_public_classes_of_the_service_share_a_name() -> None:
    shared = shared_names(SERVICE, public_only=True)
    assert {name: found for name, found in shared.items() if name not in SHARED} == {}
