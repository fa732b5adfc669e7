"""The event loop of the commands that run for long."""

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop; None where there is no uvloop: asyncio's own is used."""
    try:
        import uvloop  # noqa: PLC0415 - not available on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
