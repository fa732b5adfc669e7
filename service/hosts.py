"""Host names and addresses: which of them only this machine can reach."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback: a name, or an address with or without brackets."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = parse_address(host)
    return address is not None and address.is_loopback


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is; None: it is a name."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
