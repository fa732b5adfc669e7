"""A sandbox chain in a process of its own, which outlives the services that trade on it."""

import http.client
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.domain.tokens import TOKENS
from service.sandbox.chain import Timing
from service.solana_settings import SANDBOX_FOLDER
from tests.support.process import ServiceFork

SLOT_MS, FINALIZED_AFTER = 50, 16
"""So that a transaction is final after a second, and expires after eight."""

SOLANA_POINTS = {
    "before sign": 4,
    "after sign": 4,
    "before send": 6,
    "after send": 6,
    "before receipt": 4,
    "after receipt": 4,
}
"""The crash points that only orders on Solana reach, and the maximum number of times to pass one."""

_SOL = TOKENS["SOL"].mint
_TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
_PAGE = 500


@dataclass(frozen=True, slots=True)
class WalletTransaction:
    """A transaction of the wallet in a block of the chain.

    Attributes:
        ok: Whether it succeeded.
        fee: Lamports paid to the network, and into new token accounts.
        changes: What else the wallet gained and lost, by mint, in base units; of SOL with what is wrapped.
    """

    signature: str
    slot: int
    ok: bool
    fee: int
    changes: dict[str, int]


class SandboxProcess(ServiceFork):
    """``python -m service sandbox`` on a free port.

    Args:
        endpoints: How many endpoints the chain has, each with its own faults.
        slot_ms: The length of a slot.
        finalized_after: Slots after which a block is finalized.
        data: The folder where the chain is kept.
    """

    def __init__(
        self,
        endpoints: int = 1,
        slot_ms: int = SLOT_MS,
        finalized_after: int = FINALIZED_AFTER,
        data: Path | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._slot_ms = slot_ms
        self._whole_life = 151 + finalized_after + 1
        options: dict[str, object] = {
            "port": 0,
            "slot-ms": slot_ms,
            "finalized-after": finalized_after,
            "endpoints": endpoints,
        }
        if data is not None:
            options["data"] = str(data)
        super().__init__({}, ("sandbox", *(f"--{name}={value}" for name, value in options.items())))

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a service on this chain."""
        paths = ["", *(f"/{place}" for place in range(2, self._endpoints + 1))]
        return {
            "VENUE": "solana",
            "SOLANA_RPC_URLS": ",".join(f"{self.url}{path}" for path in paths),
            # As long as ten slots of 200 ms.
            "SOLANA_MAX_SNAPSHOT_SLOTS": str(2_000 // self._slot_ms),
        }

    @property
    def wallet(self) -> str:
        """The address of the wallet that the services trade with."""
        [line] = [line for line in self.output.splitlines() if line.startswith("Funded wallet: ")]
        return line.removeprefix("Funded wallet: ")

    def call(self, method: str, *params: Any, path: str = "/") -> Any:
        """Return what a method of a node answers."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self._post(path, body)["result"]

    def arm(self, kind: str, endpoint: str = "/", **arguments: Any) -> None:
        """Arm a fault of an endpoint, or of the chain; see docs/solana.md."""
        self._post("/sandbox/faults", {"kind": kind, "endpoint": endpoint, **arguments})

    def disarm(self) -> None:
        """Disarm the faults of all endpoints."""
        _request(self.url, "DELETE", "/sandbox/faults")

    def let_end(self) -> None:
        """Let slots pass until what is in flight has landed or never can, and that is final."""
        pass_slots(self.url, self._whole_life)

    def balances(self) -> dict[str, int]:
        """Return what the wallet has, by mint, in base units; zeros are left out."""
        found: Counter[str] = Counter({_SOL: self.call("getBalance", self.wallet)["value"]})
        config = {"encoding": "jsonParsed"}
        held = self.call("getTokenAccountsByOwner", self.wallet, {"programId": _TOKEN_PROGRAM}, config)
        for each in held["value"]:
            info = each["account"]["data"]["parsed"]["info"]
            found[info["mint"]] += int(info["tokenAmount"]["amount"])
        return {mint: amount for mint, amount in found.items() if amount}

    def transactions(self) -> list[WalletTransaction]:
        """Return all transactions of the wallet that are confirmed, the newest first, failed ones too."""
        config = {"encoding": "json", "maxSupportedTransactionVersion": 1, "commitment": "confirmed"}
        return [
            _read(each["signature"], self.wallet, self.call("getTransaction", each["signature"], config))
            for each in self._signatures()
        ]

    def _signatures(self) -> Iterator[dict[str, Any]]:
        before: dict[str, str] = {}
        while True:
            config = {"limit": _PAGE, "commitment": "confirmed", **before}
            page = self.call("getSignaturesForAddress", self.wallet, config)
            yield from page
            if len(page) < _PAGE:
                return
            before = {"before": page[-1]["signature"]}

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return _request(self.url, "POST", path, body)


def _request(url: str, method: str, path: str, body: object = None) -> Any:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        read = answer.read()
        assert answer.status == 200, read
        return json.loads(read)
    finally:
        connection.close()


def pass_slots(url: str, slots: int) -> None:
    """Let slots of a chain pass at once."""
    _request(url, "POST", "/sandbox/advance", {"slots": slots})


@contextmanager
def sandbox_process(endpoints: int = 1, slot_ms: int = SLOT_MS) -> Iterator[SandboxProcess]:
    """Run a chain."""
    with SandboxProcess(endpoints, slot_ms) as chain:
        chain.wait_until_ready()
        yield chain


@contextmanager
def kept_chain(folder: Path) -> Iterator[SandboxProcess]:
    """Run the chain of a service's data folder, while the service does not."""
    timing = Timing()
    with SandboxProcess(1, timing.slot_ms, timing.finalized_after, folder / SANDBOX_FOLDER) as chain:
        yield chain.wait_until_ready()
        assert chain.stop() == 0


def _read(signature: str, wallet: str, answer: dict[str, Any]) -> WalletTransaction:
    """Read what a transaction did, by nothing but the balances of the wallet before and after it."""
    meta = answer["meta"]
    assert answer["transaction"]["message"]["accountKeys"][0] == wallet
    changes: Counter[str] = Counter()
    places: dict[str, set[int]] = {}
    for when, sign in (("pre", -1), ("post", 1)):
        held = [each for each in meta[f"{when}TokenBalances"] if each["owner"] == wallet]
        places[when] = {each["accountIndex"] for each in held}
        for each in held:
            changes[each["mint"]] += sign * int(each["uiTokenAmount"]["amount"])
    rent = sum(meta["postBalances"][place] for place in places["post"] - places["pre"])
    changes[_SOL] += meta["postBalances"][0] - meta["preBalances"][0] + meta["fee"] + rent
    return WalletTransaction(
        signature,
        answer["slot"],
        meta["err"] is None,
        meta["fee"] + rent,
        {mint: change for mint, change in changes.items() if change},
    )
