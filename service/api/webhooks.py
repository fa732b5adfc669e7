"""Routes about webhook endpoints: create, read, change and delete them, and replace their secrets."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from service.api.access import CALLER, visible_account
from service.api.fields import is_uuid
from service.api.messages import json_response, load_body, load_query
from service.api.problems import ConflictError, InvalidError, NotFoundError
from service.api.webhook_schemas import (
    NEW_WEBHOOK,
    NEW_WEBHOOK_RESULT,
    WEBHOOK,
    WEBHOOK_CHANGES,
    WEBHOOK_LIST_QUERY,
    WEBHOOK_SECRET,
)
from service.domain.api_key import Caller, Scope
from service.domain.webhook import format_secret
from service.store.webhook_endpoints import (
    MOST_ENDPOINTS,
    NewWebhookEndpoint,
    WebhookEndpoint,
    WebhookEndpoints,
)
from service.webhooks.sender import WebhookSender


@dataclass(frozen=True, slots=True)
class WebhookRoutes:
    """The handlers of the routes about endpoints; ``on_change`` is called when one was created or changed."""

    endpoints: WebhookEndpoints
    sender: WebhookSender
    on_change: Callable[[], None]

    async def create(self, request: web.Request) -> web.Response:
        """POST /api/webhooks: an endpoint, and its secret, which cannot be read again."""
        sent = await load_body(request, NEW_WEBHOOK)
        account = request[CALLER].account
        # Before the name is resolved, which may take seconds.
        if len(await self.endpoints.get_all(account)) >= MOST_ENDPOINTS:
            raise _full()
        await self._check_url(sent["url"])
        created = await self.endpoints.create(NewWebhookEndpoint(account, **sent))
        if created is None:
            raise _full()
        endpoint_id, secret = created
        self.on_change()
        endpoint = await self._get(endpoint_id, account)
        body = {**endpoint._asdict(), "secret": format_secret(secret)}
        return json_response(NEW_WEBHOOK_RESULT.dump(body), HTTPStatus.CREATED)

    async def list(self, request: web.Request) -> web.Response:
        """GET /api/webhooks: the account's endpoints, the oldest first."""
        account = visible_account(request[CALLER], load_query(request, WEBHOOK_LIST_QUERY)["account"])
        endpoints = await self.endpoints.get_all(account)
        return json_response({"webhooks": WEBHOOK.dump(endpoints, many=True)})

    async def get(self, request: web.Request) -> web.Response:
        """GET /api/webhooks/{webhookId}: one endpoint."""
        return json_response(WEBHOOK.dump(await self._get(*_named(request))))

    async def update(self, request: web.Request) -> web.Response:
        """PATCH /api/webhooks/{webhookId}: another URL, other events, enable or disable it."""
        changes = await load_body(request, WEBHOOK_CHANGES)
        endpoint_id, account = _named(request)
        await self._get(endpoint_id, account)
        if "url" in changes:
            await self._check_url(changes["url"])
        if not await self.endpoints.update(endpoint_id, account, dict(changes)):
            raise _no_such_webhook()
        self.on_change()
        return json_response(WEBHOOK.dump(await self._get(endpoint_id, account)))

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /api/webhooks/{webhookId}: nothing more is delivered to it."""
        if not await self.endpoints.delete(*_named(request)):
            raise _no_such_webhook()
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def rotate_secret(self, request: web.Request) -> web.Response:
        """POST /api/webhooks/{webhookId}/rotate-secret: for a day both secrets sign."""
        rotated = await self.endpoints.rotate(*_named(request))
        if rotated is None:
            raise _no_such_webhook()
        secret, previous_until = rotated
        return json_response(
            WEBHOOK_SECRET.dump({"secret": format_secret(secret), "previous_until": previous_until})
        )

    async def _check_url(self, url: str) -> None:
        fault = await self.sender.find_fault(url)
        if fault is not None:
            raise InvalidError.at(("url",), fault)

    async def _get(self, endpoint_id: str, account: str | None) -> WebhookEndpoint:
        endpoint = await self.endpoints.get(endpoint_id, account)
        if endpoint is None:
            raise _no_such_webhook()
        return endpoint


def _named(request: web.Request) -> tuple[str, str | None]:
    """Return the id in a request's path, and the account that its endpoint must be of; None: any.

    Raises:
        NotFoundError: It is no id.
    """
    endpoint_id = request.match_info["webhook_id"].lower()
    if not is_uuid(endpoint_id):
        raise _no_such_webhook()
    caller: Caller = request[CALLER]
    return endpoint_id, None if caller.scope is Scope.ADMIN else caller.account


def _full() -> ConflictError:
    return ConflictError(f"The account has {MOST_ENDPOINTS} webhook endpoints, the maximum.")


def _no_such_webhook() -> NotFoundError:
    return NotFoundError("There is no such webhook.")
