"""Which URLs and addresses a webhook may call."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.webhooks.addresses import (
    NameResolver,
    PrivateAddressError,
    _find_fault_in_text,
    find_fault,
    is_public,
    open_public_socket,
)

PRIVATE = [
    "0.0.0.0",  # noqa: S104 - nothing listens
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "168.63.129.16",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.200",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "::ffff:168.63.129.16",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_called(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(PrivateAddressError):
        open_public_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443)))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)
    open_public_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443))).close()


@given(st.ip_addresses())
def test_no_private_address_is_public(address: object) -> None:
    # Both are told by the standard library: whatever it calls private is not called.
    if getattr(address, "is_private", False) or getattr(address, "is_loopback", False):
        mapped = getattr(address, "ipv4_mapped", None)
        assert not is_public(str(address)) or (mapped is not None and mapped.is_global)


async def fault_of(url: str, *, allow_private: bool = False) -> str | None:
    resolver = NameResolver()
    try:
        return await find_fault(url, resolver, allow_private=allow_private)
    finally:
        await resolver.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_where_private_addresses_are_allowed_so_is_plain_http(scheme: str) -> None:
    assert await fault_of(f"{scheme}://127.0.0.1:8080/hook?a=b", allow_private=True) is None
    assert await fault_of(f"{scheme}://localhost/", allow_private=True) is None
    assert await fault_of(f"{scheme}://user@localhost/", allow_private=True) is not None


async def test_a_name_without_an_address_may_get_one_later() -> None:
    assert await fault_of("https://nowhere.invalid/hook") is None


async def test_a_name_of_this_machine_is_refused() -> None:
    assert await fault_of("https://localhost/hook") == "The address is not a public one."


@given(st.text(max_size=60))
def test_no_text_is_an_error(text: str) -> None:
    for url in (text, f"https://{text}", f"https://example.com{text}"):
        for allow_private in (False, True):
            found = _find_fault_in_text(url, allow_private=allow_private)
            assert found is None or found.endswith(".")
