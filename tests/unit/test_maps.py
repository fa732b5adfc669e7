"""The maps in the packages' docstrings: every module is listed, and every listed module exists."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import service

SERVICE = Path(service.__file__).parent
SUPPORT = Path(__file__).parents[1] / "support"
PACKAGES = [*sorted(path.parent for path in SERVICE.rglob("__init__.py")), SUPPORT]
_ENTRY = re.compile(r"^([\w*]+(?:\.py|/)) {2,}\S", re.MULTILINE)


def there(package: Path) -> set[str]:
    """Return the names of a package's modules, and of its packages with a slash."""
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    return modules | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_names_its_modules(package: Path) -> None:
    source = (package / "__init__.py").read_text()
    entries = _ENTRY.findall(source.split('"""')[1])
    names = there(package)
    assert [entry for entry in entries if not any(fnmatch(name, entry) for name in names)] == []
    assert [name for name in sorted(names) if not any(fnmatch(name, entry) for entry in entries)] == []


@pytest.mark.parametrize("kind", ["unit", "properties"])
def test_tests_mirror_the_folders_of_the_service(kind: str) -> None:
    tests = Path(__file__).parents[1] / kind
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert {folder for folder in folders if not (SERVICE / folder).is_dir()} == set()
