"""Resolves host names in threads; libpq would block the event loop until the name server answers."""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Mapping


class Addresses:
    """Resolves the hosts of libpq's parameters.

    It uses its own daemon threads: the event loop would wait at its end for threads of its executor, however
    long a name server does not answer.
    """

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[list[str]]] = {}

    async def resolve(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters with ``hostaddr``, and each host repeated for each of its addresses.

        Raises:
            OSError: A host name cannot be resolved.
        """
        if "hostaddr" in parameters or "host" not in parameters:
            return dict(parameters)
        hosts = parameters["host"].split(",")
        ports = parameters.get("port", "").split(",")
        if len(ports) == 1:
            ports *= len(hosts)
        entries = [
            (host, address, port)
            for host, port in zip(hosts, ports, strict=False)
            for address in await self._addresses_of(host)
        ]
        host, hostaddr, port = (",".join(column) for column in zip(*entries, strict=True))
        return {**parameters, "host": host, "hostaddr": hostaddr, "port": port}

    async def _addresses_of(self, host: str) -> list[str]:
        """Return a host's addresses, the best first; an empty string for a socket path."""
        if not host or host.startswith(("/", "@")):
            return [""]
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        if host not in self._pending:
            self._pending[host] = self._look_up(host)
        # Concurrent callers share the lookup, so a name server that does not answer blocks one thread only.
        return await asyncio.shield(self._pending[host])

    def _look_up(self, host: str) -> asyncio.Future[list[str]]:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def look_up() -> None:
            result: list[str] | OSError
            try:
                answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                result = list(dict.fromkeys(str(address[0]) for *_, address in answers))
            except (OSError, UnicodeError) as error:
                result = OSError(f'cannot resolve the host name "{host}": {error}')
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(finish, result)

        def finish(result: list[str] | OSError) -> None:
            del self._pending[host]
            if isinstance(result, OSError):
                found.set_exception(result)
                found.exception()  # marks it as retrieved: the callers may have been cancelled
            else:
                found.set_result(result)

        threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
        return found
