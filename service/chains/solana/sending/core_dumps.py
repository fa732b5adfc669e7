"""Keeps the process's memory, and so a key in it, out of core dumps."""

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> list[str]:
    """Forbid core dumps of this process, and debuggers of other processes of its user.

    The limit on the size of core files is inherited by children; being dumpable is not kept by a program that
    they execute. On systems other than Linux only the limit exists.

    Returns:
        What could not be done, in words; empty if nothing remains.
    """
    problems = []
    try:
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError) as error:
        problems.append(f"the limit on core files cannot be set ({error})")
    if sys.platform == "linux":
        # A handler that the kernel pipes core dumps to ignores the limit.
        library = ctypes.CDLL(None, use_errno=True)
        if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
            problems.append(f"the process stays dumpable (error {ctypes.get_errno()})")
    return problems
