"""Behind a reverse proxy: the client's own address and scheme, as a trusted proxy tells them.

``X-Forwarded-For`` is a list to which each proxy appends the address that it was connected from. Only what a
trusted proxy appended is true: the client is the last address of the list that is not a trusted proxy's.
"""

import re
from collections.abc import Sequence

from aiohttp import web

from service.api.queues import Handler
from service.hosts import Network, parse_address

# Some balancers append the client's port: to an IPv4 address, or to an IPv6 one in brackets.
_PORT = re.compile(r"^([0-9.]+|\[[^\]]*\]):[0-9]+$")


class TrustedProxies:
    """Replaces a request's remote address and scheme by those that trusted proxies report.

    Args:
        networks: The proxies' addresses.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass the request on as the client sent it to the first trusted proxy."""
        if self._networks and self._is_trusted(request.remote or ""):
            request = self._as_sent(request)
        return await handler(request)

    def _as_sent(self, request: web.Request) -> web.Request:
        remote = request.remote or ""
        forwarded = [
            _PORT.sub(r"\1", address.strip())
            for header in request.headers.getall("X-Forwarded-For", ())
            for address in header.split(",")
        ]
        for address in reversed(forwarded):
            if parse_address(address) is None:
                break
            remote = address
            if not self._is_trusted(address):
                break
        scheme = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        return request.clone(remote=remote, scheme=scheme if scheme in {"http", "https"} else request.scheme)

    def _is_trusted(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and any(address in network for network in self._networks)
