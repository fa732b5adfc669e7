"""GET /docs: a page that shows the OpenAPI document with Swagger UI.

Its files are in ``docs_page/``, Swagger UI's unchanged: nothing is fetched from another host. The page's URLs
are relative, so that it works under any ``ROOT_PATH``.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import hdrs, web

from service.api.problems import NotFoundError

FOLDER = Path(__file__).parent / "docs_page"
ASSETS = {
    "initialise.js": "text/javascript",
    "swagger-ui/swagger-ui-bundle.js": "text/javascript",
    "swagger-ui/swagger-ui.css": "text/css",
}
"""The files that the page loads, and their content types; nothing else is served."""

# No inline script and no other host: nothing in the document can become code, or send a token away.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; "  # data: for the icons in Swagger UI's style sheet
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KEEP = "public, max-age=31536000, immutable"
_REVALIDATE = "no-cache"
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    content_type: str
    digest: str


class DocsRoutes:
    """The handlers of the page and its files, which are read once.

    Raises:
        OSError: The installation lacks one of the files.
    """

    def __init__(self) -> None:
        page = (FOLDER / "page.html").read_text()
        self._assets: dict[str, _Asset] = {}
        for path, content_type in ASSETS.items():
            name = path.rpartition("/")[2]
            content = (FOLDER / path).read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            self._assets[name] = _Asset(content, content_type, digest)
            # Another content has another URL, so that a browser may keep each for good.
            page = page.replace(f'"docs/{name}"', f'"docs/{name}?v={digest}"')
        self._page = page.encode()

    async def page(self, _request: web.Request) -> web.Response:
        """GET /docs: the page."""
        return web.Response(
            body=self._page,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": _POLICY},
        )

    async def asset(self, request: web.Request) -> web.Response:
        """GET /docs/{asset}: a file of the page, or 304 if the client has it.

        Raises:
            NotFoundError: The page has no such file.
        """
        asset = self._assets.get(request.match_info["asset"])
        if asset is None:
            raise NotFoundError("The page has no such file.")
        # While instances of two versions are running, a URL may name the content of the other one.
        is_named = request.query.get("v") == asset.digest
        headers = {
            hdrs.CACHE_CONTROL: _KEEP if is_named else _REVALIDATE,
            hdrs.ETAG: f'"{asset.digest}"',
        }
        if any(tag.value in {asset.digest, "*"} for tag in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers[hdrs.CONTENT_LENGTH] = str(len(asset.content))
        return web.Response(
            body=_chunks(asset.content),
            content_type=asset.content_type,
            charset="utf-8",
            headers=headers,
        )


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    """Yield a file in parts: a client that does not read occupies memory for one, not for a whole copy."""
    for start in range(0, len(content), _CHUNK_BYTES):
        yield content[start : start + _CHUNK_BYTES]
        # Writing does not yield to the event loop while the client reads fast enough.
        await asyncio.sleep(0)
