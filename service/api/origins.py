"""Protects browsers' users: which hosts a request may name, and which origins may change anything.

A web page can send requests to any address, also to this machine's loopback. Two of its ways are closed:

- It cannot set ``Host``. A page whose own name was made to point here (DNS rebinding) sends its own name,
  which is refused unless it is expected. An IP address cannot be rebound and is always expected.
- A browser adds ``Origin`` to what may change something and to WebSockets. A foreign one is refused, unless
  it is one of ``CORS_ORIGINS``.
"""

import functools
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp_cors
from aiohttp import hdrs, web

from service.api.problems import SECURITY_HEADERS, ForbiddenError, ProblemError
from service.api.queues import Handler
from service.hosts import is_loopback, parse_address

_SAFE = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
_PREFLIGHT_VALID_S = 600
_HEALTH = "/health"


class Origins:
    """Refuses requests that name an unexpected host, and changes from a foreign origin.

    Args:
        hosts: Names that a request may have in ``Host``, besides loopback names and IP addresses. ``*``: any;
            ``.example.com``: its subdomains too.
        origins: Origins of web pages that may use the API, such as ``https://app.example.com``.
    """

    def __init__(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts = hosts
        self._origins = frozenset(origins)
        # The same few values come with every request; the bound is for those of a scanner.
        self._is_expected = functools.lru_cache(1_000)(self._check_host)

    def protect(self, app: web.Application) -> None:
        """Make an application's responses carry the security headers, and allow the origins to read them."""
        app.on_response_prepare.append(_add_security_headers)
        if not self._origins:
            return
        options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
            expose_headers="*", allow_headers="*", allow_methods="*", max_age=_PREFLIGHT_VALID_S
        )
        cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(self._origins, options))
        for route in list(app.router.routes()):
            if route.method != hdrs.METH_HEAD:
                cors.add(route)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request from a place that it should not come from."""
        host = request.headers.get(hdrs.HOST, "")
        # A load balancer checks the health under a name of its own, and the response tells a page nothing.
        if not self._is_expected(host) and request.path != _HEALTH:
            raise ProblemError.of_status(
                HTTPStatus.MISDIRECTED_REQUEST, "The Host is not expected here; see ALLOWED_HOSTS."
            )
        origin = request.headers.get(hdrs.ORIGIN)
        if (
            origin is not None
            and origin not in self._origins
            and _changes(request)
            and _is_foreign(origin, host)
        ):
            raise ForbiddenError("The Origin is not allowed; see CORS_ORIGINS.")
        return await handler(request)

    def _check_host(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        except ValueError:
            return False
        if not name or is_loopback(name) or parse_address(name) is not None:
            return True
        return any(
            pattern in {"*", name} or (pattern.startswith(".") and f".{name}".endswith(pattern))
            for pattern in self._hosts
        )


def _changes(request: web.Request) -> bool:
    return request.method not in _SAFE or hdrs.UPGRADE in request.headers


def _is_foreign(origin: str, host: str) -> bool:
    """Return whether an origin is another than the host's own; "null" always is."""
    return origin.partition("://")[2].lower() != host.lower()


async def _add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
