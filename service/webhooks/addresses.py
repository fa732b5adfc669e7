"""Which URLs and addresses a webhook may call.

Whoever registers an endpoint must not reach the servers beside this one through it. So the address that is
really connected to is checked each time, whatever a name resolved to before.
"""

import asyncio
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

LONGEST_URL = 2_048

_PRINTABLE = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_URL}}}")
_NOT_PUBLIC = "The address is not a public one."
_RESOLVE_TIMEOUT_S = 3.0
# getaddrinfo cannot be cancelled: a name server that does not answer holds a thread for seconds.
_THREADS = 32

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Some versions of Python call these public: protocol assignments, and documentation. The single address is a
# cloud's service on each host.
_NOT_CALLED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "168.63.129.16/32", "3fff::/20")))


class PrivateAddressError(OSError):
    """The address that would be connected to is not public."""

    def __init__(self) -> None:
        super().__init__(_NOT_PUBLIC)


def is_public(host: str) -> bool:
    """Return whether an IP address is public: on the internet, and of one host."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # with a zone, for example
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        elif address not in _GLOBAL_UNICAST or address.sixtofour or address.teredo:
            return False
    if any(address in network for network in _NOT_CALLED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def open_public_socket(info: tuple[Any, ...]) -> socket.socket:
    """Return a socket for an address, as ``getaddrinfo`` returned it, if that is public.

    Raises:
        PrivateAddressError: It is not.
    """
    family, kind, protocol, _name, address = info
    if not is_public(address[0]):
        raise PrivateAddressError
    return socket.socket(family, kind, protocol)


class NameResolver(AbstractResolver):
    """Resolves names in its own threads, so that name servers that do not answer delay nothing else.

    Args:
        threads: How many names are resolved at once.
    """

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, "webhook names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            OSError: It has none.
        """
        ask = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _kind, protocol, _name, address in infos
        ]

    async def close(self) -> None:
        """Resolve no more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def find_fault(url: str, resolver: NameResolver, *, allow_private: bool) -> str | None:
    """Return why a URL cannot be an endpoint, for the client; None: it can.

    A name that cannot be resolved now may be resolved later, and is checked then.

    Args:
        url: The URL.
        resolver: Resolves its host.
        allow_private: Whether any address may be called, and without TLS.
    """
    fault = _find_fault_in_text(url, allow_private=allow_private)
    host = None if fault is not None else URL(url).raw_host
    if host is None or allow_private:
        return fault
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                addresses = [result["host"] for result in await resolver.resolve(host)]
        except (OSError, UnicodeError):  # a TimeoutError is an OSError
            return None
    else:
        addresses = [host]
    return None if all(map(is_public, addresses)) else _NOT_PUBLIC


def _find_fault_in_text(url: str, *, allow_private: bool) -> str | None:
    if not _PRINTABLE.fullmatch(url):
        return f"Must be 1 to {LONGEST_URL} printable ASCII characters, without spaces."
    try:
        parsed = URL(url)
        has_host = bool(parsed.raw_host) and bool(parsed.port)
    except ValueError:
        return "Not a valid URL."
    if parsed.scheme not in ({"https", "http"} if allow_private else {"https"}) or not has_host:
        return "Must be an https:// URL."
    if parsed.user is not None or parsed.password is not None or "@" in parsed.raw_authority:
        return "Must not contain a user name or a password."
    if parsed.fragment or "#" in url:
        return "Must not have a fragment."
    return None
