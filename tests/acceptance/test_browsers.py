"""What a web page of another site could do is refused; what a browser needs of an allowed one works."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import WSServerHandshakeError
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Request, Response

from service.api.proxies import TrustedProxies
from service.hosts import parse_networks
from tests.support.orders import Client, order_of, place

Start = Callable[..., Awaitable[Client]]

APP = "https://app.example.com"
UNKNOWN = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:3000", 200),
        ("localhost.:3000", 200),
        ("engine.localhost", 200),
        ("127.0.0.1:3000", 200),
        ("[::1]:3000", 200),
        ("10.1.2.3", 200),
        ("api.example.com", 200),
        ("API.example.com:8443", 200),
        ("sub.example.org", 200),
        ("example.org", 200),
        ("evil.example", 421),
        ("api.example.com.evil.example", 421),
        ("notexample.org", 421),
        ("sub.api.example.com", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("[::1", 421),
    ],
)
async def test_only_expected_hosts_are_served(start: Start, host: str, status: int) -> None:
    client = await start(ALLOWED_HOSTS="api.example.com,.example.org", ALLOW_ANONYMOUS="1")
    async with client.get("/api/tokens", headers={"Host": host}) as answer:
        assert answer.status == status
        if status == 421:
            assert answer.content_type == "application/problem+json"


async def test_the_health_is_told_under_any_host(start: Start) -> None:
    client = await start()
    assert (await client.get("/health", headers={"Host": "probe.example"})).status == 200
    assert (await client.get("/health/", headers={"Host": "probe.example"})).status == 421


async def test_any_host_is_served_if_the_setting_says_so(start: Start) -> None:
    client = await start(ALLOWED_HOSTS="*", ALLOW_ANONYMOUS="1")
    assert (await client.get("/api/tokens", headers={"Host": "anything.example"})).status == 200


async def test_a_foreign_page_changes_nothing(start: Start) -> None:
    client = await start(CORS_ORIGINS=APP)
    own = f"http://{client.host}:{client.port}"
    order = await place(client)
    for origin, allowed in ((own, True), (APP, True), ("https://evil.example", False), ("null", False)):
        header = {"Origin": origin}
        for method, path, body in (
            ("POST", "/api/orders/execute", order_of()),
            ("POST", "/api/orders/cancel", {"all": True}),
            ("PATCH", f"/api/orders/{UNKNOWN}", {"slippageBps": 1}),
            ("DELETE", f"/api/orders/{UNKNOWN}", None),
        ):
            async with client.request(method, path, json=body, headers=header) as answer:
                assert (answer.status != 403) == allowed, (origin, path)
        path = f"/api/orders/{order['id']}/ws"
        if allowed:
            await (await client.ws_connect(path, headers=header)).close()
        else:
            with pytest.raises(WSServerHandshakeError, match="403"):
                await client.ws_connect(path, headers=header)
        # Reading is left to the browser, which shows a page only what CORS allows.
        async with client.get("/api/tokens", headers=header) as answer:
            assert answer.status == 200
            assert answer.headers.get("Access-Control-Allow-Origin") == (APP if origin == APP else None)


async def test_a_browser_may_ask_before_it_sends(start: Start) -> None:
    client = await start(CORS_ORIGINS=APP)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, status in ((APP, 200), ("https://evil.example", 403)):
        async with client.options("/api/orders/execute", headers={**asked, "Origin": origin}) as answer:
            assert answer.status == status
            if status == 200:
                assert answer.headers["Access-Control-Allow-Origin"] == APP
                assert answer.headers["Access-Control-Allow-Methods"] == "POST"
                assert answer.headers["Access-Control-Allow-Headers"].lower() == "authorization"
    # An error can be read too.
    async with client.post("/api/orders/execute", json={}, headers={"Origin": APP}) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (422, APP)


async def test_without_the_setting_there_is_no_cors(start: Start) -> None:
    client = await start()
    async with client.get("/api/tokens", headers={"Origin": APP}) as answer:
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert (await client.options("/api/tokens", headers={"Origin": APP})).status == 405


@pytest.mark.parametrize("path", ["/health", "/api/tokens", "/api/orders/none", "/nowhere"])
async def test_every_response_has_the_security_headers(start: Start, path: str) -> None:
    client = await start()
    async with client.get(path) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("10.0.0.1", {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"}, ("1.2.3.4", "https")),
        # What the client itself wrote stands to the left of what the proxy appended.
        ("10.0.0.1", {"X-Forwarded-For": "9.9.9.9, 1.2.3.4"}, ("1.2.3.4", "http")),
        ("10.0.0.1", {"X-Forwarded-For": "1.2.3.4, 10.0.0.2"}, ("1.2.3.4", "http")),
        ("10.0.0.1", {"X-Forwarded-For": "1.2.3.4, unknown"}, ("10.0.0.1", "http")),
        ("::ffff:10.0.0.1", {"X-Forwarded-For": "1.2.3.4:5678"}, ("1.2.3.4", "http")),
        ("10.0.0.1", {"X-Forwarded-For": "[2001:db8::1]:5678"}, ("[2001:db8::1]", "http")),
        ("10.0.0.1", {"X-Forwarded-Proto": "javascript"}, ("10.0.0.1", "http")),
        ("10.0.0.1", {}, ("10.0.0.1", "http")),
        ("8.8.8.8", {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"}, ("8.8.8.8", "http")),
    ],
)
async def test_only_a_trusted_proxy_is_believed(
    peer: str, headers: dict[str, str], expected: tuple[str, str]
) -> None:
    proxies = TrustedProxies(parse_networks("10.0.0.0/8"))
    seen = []

    async def handler(request: Request) -> Response:
        seen.append((request.remote, request.scheme))
        return Response()

    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    await proxies.middleware(request, handler)
    assert seen == [expected]


async def test_the_documents_name_the_root_path(start: Start) -> None:
    client = await start(ROOT_PATH="/engine", ALLOW_ANONYMOUS="1")
    document = await (await client.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/engine"}]
    streams = await (await client.get("/asyncapi.json")).json()
    assert streams["servers"]["engine"]["pathname"] == "/engine"
