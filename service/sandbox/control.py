"""Requests that arm faults, fork the chain and make slots, for tests and demonstrations."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from service.sandbox.chain import SandboxChain
from service.sandbox.faults import InvalidFaultError
from service.sandbox.keeping import ChainFolder
from service.sandbox.market import PoolMover
from service.sandbox.node import Node

_MOST_SLOTS = 10_000


class Control:
    """Handlers of the requests under ``/sandbox``.

    Args:
        chain: The chain.
        nodes: Its endpoints, by path.
        folder: Where it is kept; None: it is not.
    """

    def __init__(self, chain: SandboxChain, nodes: Mapping[str, Node], folder: ChainFolder | None) -> None:
        self._chain = chain
        self._nodes = nodes
        self._folder = folder
        self.mover = PoolMover(chain)

    async def arm(self, request: web.Request) -> web.Response:
        """Arm a fault: ``{"kind": "drop", "endpoint": "/", "times": 1, ...}``."""
        wanted = await _object(request)
        kind = wanted.pop("kind", None)
        try:
            if kind == "fork":
                self._chain.fork(_number(wanted, "depth", 1), keep=bool(wanted.get("keep", True)))
            elif kind == "skip":
                self._chain.skip(_number(wanted, "slots", 1))
            elif kind == "move_pool":
                self.mover.arm(_number(wanted, "bps", 100), _number(wanted, "times", 1))
            else:
                self._arm_endpoint(str(kind), wanted)
        except (InvalidFaultError, TypeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response({"armed": kind})

    def _arm_endpoint(self, kind: str, wanted: dict[str, Any]) -> None:
        node = self._nodes.get(wanted.pop("endpoint", "/"))
        if node is None:
            raise InvalidFaultError(f"endpoint must be one of {', '.join(self._nodes)}")
        node.faults.arm(kind, **wanted)

    async def clear(self, request: web.Request) -> web.Response:
        """Disarm the faults of all endpoints."""
        for node in self._nodes.values():
            node.faults.clear(request.query.get("kind"))
        return web.json_response({"armed": None})

    async def advance(self, request: web.Request) -> web.Response:
        """Make slots: ``{"slots": 1}``."""
        wanted = await _object(request)
        try:
            slots = _number(wanted, "slots", 1)
        except InvalidFaultError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        self._chain.advance(slots)
        if self._folder is not None:
            await self._folder.settle()
        return web.json_response({"slot": self._chain.tip.slot, "blockHeight": self._chain.tip.height})


async def _object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Content-Type: application/json is required")
    try:
        found = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="not JSON") from None
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(text="not an object")
    return found


def _number(wanted: Mapping[str, Any], name: str, default: int) -> int:
    value = wanted.get(name, default)
    if type(value) is not int or not 1 <= value <= _MOST_SLOTS:
        raise InvalidFaultError(f"{name} must be a whole number from 1 to {_MOST_SLOTS}")
    return value
