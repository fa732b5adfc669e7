"""Routes for those who operate the service: the kill switch."""

import logging
from dataclasses import dataclass

from aiohttp import web

from service.api.access import CALLER
from service.api.admin_schemas import HALT, HALT_STATE
from service.api.messages import json_response, load_body
from service.store.halt import TradingHalt

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdminRoutes:
    """The handlers of the routes that operate the service."""

    trading_halt: TradingHalt

    async def halt(self, request: web.Request) -> web.Response:
        """POST /api/admin/halt: accept, fire, start and submit no more orders, on any instance."""
        sent = await load_body(request, HALT)
        halt = await self.trading_halt.halt(sent["reason"])
        log.warning("trading was halted by key %s", request[CALLER].key_id)
        return json_response(HALT_STATE.dump({"halted": True, **halt._asdict()}))

    async def resume(self, request: web.Request) -> web.Response:
        """POST /api/admin/resume: trade again."""
        await self.trading_halt.resume()
        log.warning("trading was resumed by key %s", request[CALLER].key_id)
        return json_response(HALT_STATE.dump({"halted": False, "reason": None, "halted_at": None}))
