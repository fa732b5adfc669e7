"""Host names, addresses and origins: parsed, and which of them only this machine can reach."""

import ipaddress
import re
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
_PATTERN = re.compile(rf"\*|\.?{_NAME}")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class InvalidHostError(ValueError):
    """The text is not a host, an origin or a path; the message says what it must be."""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback: a name, or an address with or without brackets."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = parse_address(host)
    return address is not None and address.is_loopback


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is, an IPv4 one if it is mapped to IPv6; None: it is a name."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def parse_host_patterns(text: str) -> tuple[str, ...]:
    """Parse a list of host names: ``api.example.com``, ``.example.com`` with its subdomains, or ``*``.

    Raises:
        InvalidHostError: One of them is none of these.
    """
    patterns = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if any(not _PATTERN.fullmatch(pattern) for pattern in patterns):
        raise InvalidHostError("must be host names without a port, separated by commas, or *")
    return patterns


def parse_origins(text: str) -> tuple[str, ...]:
    """Parse a list of origins, such as ``https://app.example.com``.

    Raises:
        InvalidHostError: One of them is not an origin.
    """
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not _is_origin(origin):
            raise InvalidHostError("must be origins such as https://app.example.com, separated by commas")
    return origins


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse a list of addresses and networks, such as ``10.0.0.5`` and ``10.0.0.0/8``.

    Raises:
        InvalidHostError: One of them is neither.
    """
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise InvalidHostError("must be addresses or networks (10.0.0.0/8), separated by commas") from None


def parse_root_path(text: str) -> str:
    """Parse the path under which a proxy serves the API, such as ``/engine``; empty: none.

    Raises:
        InvalidHostError: It is not such a path.
    """
    if text and not _ROOT_PATH.fullmatch(text):
        raise InvalidHostError("must be a path such as /engine, without a slash at its end")
    return text


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Raises ValueError if the port is none.
        _ = parts.port
    except ValueError:
        return False
    host = (parts.hostname or "").lower()
    known_host = parse_address(host) is not None or re.fullmatch(_NAME, host) is not None
    is_plain = text == f"{parts.scheme}://{parts.netloc}".lower() and "@" not in text
    return is_plain and known_host
