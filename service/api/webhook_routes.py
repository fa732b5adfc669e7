"""The rows of the route table about webhook endpoints."""

from service.api.route import ApiLink, ApiResponse, ApiRoute, Idempotent
from service.api.webhook_schemas import (
    NewWebhookResultSchema,
    NewWebhookSchema,
    WebhookChangesSchema,
    WebhookListQuerySchema,
    WebhookListSchema,
    WebhookSchema,
    WebhookSecretSchema,
)
from service.domain.api_key import Scope

_OF_WEBHOOK = tuple(
    ApiLink(operation_id, "webhookId", "id")
    for operation_id in ("getWebhook", "updateWebhook", "deleteWebhook", "rotateWebhookSecret")
)

WEBHOOK_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute(
        "POST",
        "/api/webhooks",
        Scope.TRADE,
        lambda groups: groups.webhooks.create,
        "createWebhook",
        "Create an endpoint that is told of every change of the account's orders",
        at_most=4,
        body=NewWebhookSchema,
        idempotency=Idempotent.BY_RESPONSE,
        responses=(
            ApiResponse(201, "The endpoint, with its secret.", NewWebhookResultSchema, links=_OF_WEBHOOK),
        ),
        problems=(409, 503),
    ),
    ApiRoute(
        "GET",
        "/api/webhooks",
        Scope.READ,
        lambda groups: groups.webhooks.list,
        "listWebhooks",
        "List the endpoints, and how deliveries to them go",
        at_most=2,
        query=WebhookListQuerySchema,
        responses=(ApiResponse(200, "The endpoints.", WebhookListSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/webhooks/{webhook_id}",
        Scope.READ,
        lambda groups: groups.webhooks.get,
        "getWebhook",
        "Read an endpoint, and how deliveries to it go",
        at_most=4,
        responses=(ApiResponse(200, "The endpoint.", WebhookSchema),),
        problems=(404, 503),
    ),
    ApiRoute(
        "PATCH",
        "/api/webhooks/{webhook_id}",
        Scope.TRADE,
        lambda groups: groups.webhooks.update,
        "updateWebhook",
        "Change an endpoint's URL or events, enable or disable it",
        at_most=4,
        body=WebhookChangesSchema,
        responses=(ApiResponse(200, "The endpoint.", WebhookSchema),),
        problems=(404, 503),
    ),
    ApiRoute(
        "DELETE",
        "/api/webhooks/{webhook_id}",
        Scope.TRADE,
        lambda groups: groups.webhooks.delete,
        "deleteWebhook",
        "Delete an endpoint, and what is still to be delivered to it",
        at_most=4,
        responses=(ApiResponse(204, "Deleted."),),
        problems=(404, 503),
    ),
    ApiRoute(
        "POST",
        "/api/webhooks/{webhook_id}/rotate-secret",
        Scope.TRADE,
        lambda groups: groups.webhooks.rotate_secret,
        "rotateWebhookSecret",
        "Replace an endpoint's secret; for a day both sign",
        at_most=4,
        idempotency=Idempotent.BY_RESPONSE,
        responses=(ApiResponse(200, "The new secret.", WebhookSecretSchema),),
        problems=(404, 503),
    ),
)
