"""Routes about the caller's own API key: what it may do, and tickets for WebSockets."""

from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from service.api.access import CALLER, Access
from service.api.admin_schemas import KEY, TICKET
from service.api.messages import json_response
from service.domain.budgets import Usage, used_of
from service.domain.mode import TradingMode
from service.domain.timestamps import format_epoch
from service.domain.tokens import TOKENS
from service.store.api_keys import TICKET_VALID_S
from service.store.budgets import Budgets


@dataclass(frozen=True, slots=True)
class KeyRoutes:
    """The handlers of the routes about the caller's key; ``mode`` is whether orders trade real money."""

    access: Access
    budgets: Budgets
    mode: TradingMode

    async def me(self, request: web.Request) -> web.Response:
        """GET /api/keys/me: what the caller's key may do, and what its orders use of its budgets."""
        caller = request[CALLER]
        key = self.access.key_of(caller)
        usage = Usage()
        if caller.key_id is not None and caller.limits.has_budgets:
            usage = await self.budgets.usage(caller.key_id)
        decimals = {symbol: TOKENS[symbol].decimals for symbol in usage.amounts if symbol in TOKENS}
        body = {
            "key_id": caller.key_id,
            "name": None if key is None else key.name,
            "account": caller.account,
            "scope": caller.scope,
            "created_at": None if key is None else format_epoch(key.created_at),
            "expires_at": None if key is None or key.expires_at is None else format_epoch(key.expires_at),
            "mode": self.mode,
            "limits": caller.limits.as_shown(),
            "used": used_of(caller.limits, usage, decimals),
        }
        return json_response(KEY.dump(body))

    async def create_ticket(self, request: web.Request) -> web.Response:
        """POST /api/stream-tickets: a ticket that opens one WebSocket, within 30 seconds."""
        ticket = await self.access.create_ticket(request[CALLER])
        body = {"ticket": ticket, "valid_seconds": TICKET_VALID_S}
        return json_response(TICKET.dump(body), HTTPStatus.CREATED)
