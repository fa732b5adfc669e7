"""The page at /docs: it works in a browser that enforces its policy, and loads nothing from another host."""

import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from yarl import URL

from service.api.docs import ASSETS, FOLDER
from tests.support.orders import Client

Start = Callable[..., Awaitable[Client]]

NO_ICON = "data:,"


class Page(HTMLParser):
    """What a page loads, and what a policy without ``unsafe-inline`` forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            if name in {"src", "href"}:
                self.links.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._inside in {"script", "style"} and data.strip():
            self.inline.append(data)

    def handle_endtag(self, _tag: str) -> None:
        self._inside = ""

    @property
    def assets(self) -> list[str]:
        """The URLs of its scripts and style sheets."""
        return [link for link in self.links if link not in {NO_ICON, "openapi.json"}]


async def read_page(client: Client) -> Page:
    async with client.get("/docs") as answer:
        assert answer.status == 200
        return Page(await answer.text())


async def test_the_page_is_html_for_anyone(start: Start) -> None:
    client = await start()
    async with client.get("/docs") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
    async with client.head("/docs") as answer:
        assert answer.status == 200


async def test_the_policy_allows_only_what_the_page_needs(start: Start) -> None:
    client = await start()
    async with client.get("/docs") as answer:
        [text] = answer.headers.getall("Content-Security-Policy")
        page = Page(await answer.text())
    policy = {name: sources for name, *sources in (part.split() for part in text.split("; "))}
    assert policy == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    # It forbids inline scripts and styles, so the page must not need any.
    assert page.inline == []
    # All other responses allow nothing.
    for path in (f"/{page.assets[0]}", "/openapi.json", "/docs/none"):
        async with client.get(path) as answer:
            assert "'self'" not in answer.headers["Content-Security-Policy"]


async def test_the_page_refers_to_no_other_host(start: Start) -> None:
    client = await start()
    page = await read_page(client)
    assert len(page.assets) == len(ASSETS)
    for link in page.links:
        parts = urlsplit(link)
        assert not parts.netloc, link
        assert link == NO_ICON or not (parts.scheme or parts.path.startswith("/")), link
    own = [(FOLDER / name).read_text() for name in ("page.html", "initialise.js")]
    assert not [text for text in own if re.search(r"https?:|\"//", text)]
    # By default, Swagger UI lets another host validate the document.
    assert 'validatorUrl: "none"' in own[1]


@pytest.mark.parametrize("root_path", ["", "/engine"])
async def test_the_document_and_the_files_are_found_under_any_root_path(start: Start, root_path: str) -> None:
    client = await start(ROOT_PATH=root_path, ALLOW_ANONYMOUS="1")
    page = await read_page(client)
    [document] = re.findall(r'\burl: "([^"]*)"', (FOLDER / "initialise.js").read_text())
    for link in (*page.assets, document):
        asked = urljoin(f"http://engine.example{root_path}/docs", link)
        # The proxy removes the root path.
        path = asked.removeprefix(f"http://engine.example{root_path}")
        async with client.get(path) as answer:
            assert answer.status == 200, link
    assert (await (await client.get(path)).json())["servers"] == [{"url": root_path or "/"}]


async def test_every_file_is_served_as_it_is_and_kept_by_browsers(start: Start) -> None:
    client = await start()
    links = (await read_page(client)).assets
    for path, content_type in ASSETS.items():
        name = path.rpartition("/")[2]
        [link] = [each for each in links if each.startswith(f"docs/{name}?v=")]
        content = (FOLDER / path).read_bytes()
        async with client.get(f"/{link}") as answer:
            assert answer.status == 200
            assert await answer.read() == content
            assert answer.headers["Content-Type"] == f"{content_type}; charset=utf-8"
            assert answer.headers["Content-Length"] == str(len(content))
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            tag = answer.headers["ETag"]
        async with client.head(f"/{link}") as answer:
            assert (answer.status, answer.headers["ETag"]) == (200, tag)
            assert answer.headers["Content-Length"] == str(len(content))
        for known in (tag, f'"other", W/{tag}', "*"):
            async with client.get(f"/{link}", headers={"If-None-Match": known}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
                assert answer.headers["ETag"] == tag
        async with client.get(f"/{link}", headers={"If-None-Match": '"other"'}) as answer:
            assert answer.status == 200
        # A URL that does not name this content must not keep it for good.
        for other in (f"docs/{name}", f"docs/{name}?v=other"):
            async with client.get(f"/{other}") as answer:
                assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "path",
    [
        "/docs/",
        "/docs/none.js",
        "/docs/page.html",
        "/docs/swagger-ui",
        "/docs/swagger-ui/swagger-ui.css",
        "/docs/swagger-ui%2Fswagger-ui.css",
        "/docs/%2E%2E",
        "/docs/..%2Fdocs.py",
        "/docs/..%2F..%2F..%2Fpyproject.toml",
        "/docs/%2Fetc%2Fpasswd",
        "/docs/swagger-ui.css%00",
        "/docs/swagger-ui.css%00.js",
        "/docs/Swagger-UI.css",
    ],
)
async def test_no_other_file_is_served(start: Start, path: str) -> None:
    client = await start()
    url = URL(f"http://{client.host}:{client.port}{path}", encoded=True)
    async with client.session.get(url) as answer:
        assert answer.status == 404
        assert answer.content_type == "application/problem+json"


async def test_the_page_can_only_be_read(start: Start) -> None:
    client = await start()
    for path in ("/docs", "/docs/swagger-ui.css"):
        async with client.post(path) as answer:
            assert answer.status == 405


async def test_the_page_offers_to_enter_a_key(start: Start) -> None:
    # Swagger UI shows "Authorize" for the security schemes of the document.
    client = await start()
    document = await (await client.get("/openapi.json")).json()
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert document["paths"]["/api/orders/execute"]["post"]["security"] == [{name: []}]
    assert document["paths"]["/docs"]["get"]["security"] == []
