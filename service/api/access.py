"""Access: authenticates the caller of a request, counts the request, and checks the key's scope.

A client sends its API key as ``Authorization: Bearer``. A browser cannot send a header with a WebSocket: it
offers a ticket, a single-use credential, as a subprotocol. While no key was ever created, every client is
anonymous and may do everything; where that would be dangerous the service does not start.
"""

import asyncio
import re

from aiohttp import hdrs, web

from service.api.problems import ForbiddenError, ProblemError, UnauthorizedError
from service.api.queues import Handler
from service.api.request_limits import RequestLimits
from service.api.requests import SentFilter
from service.domain.api_key import ApiKey, Caller, Scope
from service.domain.order import DEFAULT_ACCOUNT
from service.store.api_keys import ApiKeys, KeyCache
from service.store.endings import Filter

CALLER = web.RequestKey("caller", Caller)
"""The caller of a request, for its handler."""

STREAM_PROTOCOL = "order-engine.v1"
"""The WebSocket subprotocol of all streams."""

TICKET_PREFIX = "ticket."
"""A subprotocol with this prefix is a ticket."""

_SECRET = re.compile(r"[0-9a-f]{64}")
_ANONYMOUS = Caller(DEFAULT_ACCOUNT, Scope.ADMIN, None)
_NOT_VALID = "The API key is missing or not valid."
_NOT_ALLOWED = "The API key's scope does not allow this; it needs: {}."


class Access:
    """Authenticates callers.

    Args:
        keys: The stored keys, for tickets.
        cache: The keys in memory.
        limits: Counts the requests of each key.
    """

    def __init__(self, keys: ApiKeys, cache: KeyCache, limits: RequestLimits) -> None:
        self._keys = keys
        # Whoever connects can offer a ticket: the statements that look for them must leave room for others.
        self._redeeming = asyncio.Semaphore(2)
        self._limits = limits
        self._cache = cache

    def guard(self, scope: Scope, handler: Handler, *, tickets: bool = False) -> Handler:
        """Return a handler that only callers with a scope reach; it finds the caller under ``CALLER``.

        Args:
            scope: The scope that it needs.
            handler: The handler.
            tickets: Whether a ticket is accepted too.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            caller = await self._authenticate(request, tickets=tickets)
            allowance = await self._limits.count(caller, request.remote)
            try:
                if not caller.scope.includes(scope):
                    raise ForbiddenError(_NOT_ALLOWED.format(scope))
                request[CALLER] = caller
                response = await handler(request)
            except ProblemError as problem:
                problem.headers.update(allowance)
                raise
            if not response.prepared:
                response.headers.update(allowance)
            return response

        return answer

    def key_of(self, caller: Caller) -> ApiKey | None:
        """Return the key of an authenticated caller; None: it is anonymous."""
        return None if caller.key_id is None else self._cache.active(caller.key_id)

    async def create_ticket(self, caller: Caller) -> str:
        """Return a new ticket, which authenticates as the caller once.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        return await self._keys.create_ticket(caller.key_id)

    async def is_active(self, caller: Caller) -> bool:
        """Return whether a caller's key is still in force.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        await self._cache.refresh()
        if caller.key_id is None:
            return self._cache.is_empty
        return self._cache.active(caller.key_id) is not None

    async def _authenticate(self, request: web.Request, *, tickets: bool) -> Caller:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        # An empty token is none: a tool whose variable for it is not set sends one.
        if scheme.lower() == "bearer" and token.strip():
            return _caller_of(await self._cache.authenticate(token.strip()))
        await self._cache.refresh()
        if tickets and (ticket := _ticket_of(request)) is not None:
            return await self._redeem(ticket)
        if self._cache.is_empty:
            return _ANONYMOUS
        raise UnauthorizedError(_NOT_VALID)

    async def _redeem(self, ticket: str) -> Caller:
        used = None
        if _SECRET.fullmatch(ticket):
            async with self._redeeming:
                used = await self._keys.use_ticket(ticket)
        if used is None:
            raise UnauthorizedError("The ticket is not valid: it was used, or is older than 30 seconds.")
        [key_id] = used
        if key_id is None and self._cache.is_empty:
            return _ANONYMOUS
        return _caller_of(None if key_id is None else await self._cache.find_active(key_id))


def visible_account(caller: Caller, wanted: str | None) -> str | None:
    """Return the account whose orders or webhooks a caller may see; None: those of all accounts.

    Raises:
        ForbiddenError: It asks for another account, and is not an admin.
    """
    if caller.scope is Scope.ADMIN:
        return wanted
    if wanted not in {None, caller.account}:
        raise ForbiddenError("Only an admin key sees other accounts.")
    return caller.account


def visible_filter(caller: Caller, sent: SentFilter) -> Filter:
    """Return the filter of the orders that a caller lists, watches or cancels.

    Raises:
        ForbiddenError: As of ``visible_account``.
    """
    account = visible_account(caller, sent["account"])
    return Filter(account, sent["order_type"], sent["token_in"], sent["token_out"], sent["label"])


def _caller_of(key: ApiKey | None) -> Caller:
    if key is None:
        raise UnauthorizedError(_NOT_VALID)
    return Caller(key.account, key.scope, key.id, key.limits)


def _ticket_of(request: web.Request) -> str | None:
    for offered in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ()):
        for protocol in offered.split(","):
            if protocol.strip().startswith(TICKET_PREFIX):
                return protocol.strip().removeprefix(TICKET_PREFIX)
    return None
