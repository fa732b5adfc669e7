"""Prints checks, and counts what came of them."""

import json
from collections import Counter
from collections.abc import AsyncIterator

from service.chains.inspection import Check, CheckResult


async def print_checks(checks: AsyncIterator[Check], *, as_json: bool) -> bool:
    """Print each check as soon as it is made, or all as JSON; return whether none has failed."""
    made = []
    async for check in checks:
        made.append(check)
        if not as_json:
            print(check, flush=True)
    counted = Counter(check.result for check in made)
    if as_json:
        print(json.dumps({"checks": [check.as_json() for check in made], **_counts(counted)}))
    else:
        print(", ".join(f"{count} {result}" for result, count in _counts(counted).items()))
    return not counted[CheckResult.FAILED]


def _counts(counted: Counter[CheckResult]) -> dict[str, int]:
    return {result.value: counted[result] for result in CheckResult}
