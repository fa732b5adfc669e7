"""The inspector of a Solana venue. Implements ``service.chains.inspection.Inspector``."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence

from service.amm import AmmError
from service.chains.inspection import Check, CheckResult, Discovery, FoundPool, HeldToken, InspectionError
from service.chains.solana.feed.feed import FeedSettings
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.inspection.cluster import (
    check_alpenglow,
    check_budget,
    check_clock,
    check_enough,
    check_programs,
)
from service.chains.solana.inspection.discovery import discover
from service.chains.solana.inspection.endpoints import (
    check_calls,
    check_history,
    check_identity,
    check_lag,
    check_sends,
    check_version_1,
    identify,
)
from service.chains.solana.inspection.pools import read_pools
from service.chains.solana.inspection.probe import ANYBODY
from service.chains.solana.inspection.subject import Subject
from service.chains.solana.inspection.tokens import check_tokens, read_mints
from service.chains.solana.inspection.trials import TrialWallet, check_pool
from service.chains.solana.inspection.wallet import (
    SOL,
    OrderCosts,
    check_signer,
    check_sol,
    read_holdings,
    read_sol,
)
from service.chains.solana.lists import InvalidListError, add_pools
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.rpc.endpoint import Endpoint
from service.chains.solana.rpc.endpoints import QUOTE_LAG_SLOTS, Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.preparation import TokenAccountRent
from service.chains.solana.sending.signer import WalletSigner
from service.chains.venue import VenueUnavailableError
from service.clock import Clock
from service.domain.mode import TradingMode
from service.domain.tokens import Token
from service.settings import InvalidSettingError
from service.solana_settings import Cluster

_NO_POOLS = "make the list with 'python -m service pools discover SOL USDC --write'"
_NO_TOKENS = "write the list: docs/solana.md shows one"
_NO_SIGNER = "make a key with 'python -m service wallet new FILE', and set SOLANA_SIGNER=file:FILE"
_ACCOUNTS_TO_READ = 3


class SolanaInspector:
    """Looks at a Solana venue.

    Args:
        subject: What to look at.
        clock: Measures time.
    """

    def __init__(self, subject: Subject, clock: Clock) -> None:
        self._subject = subject
        self._clock = clock
        self._endpoints = Endpoints(subject.urls, clock, subject.genesis_hash)
        self._programs = AmmPrograms(subject.ids)
        self._rent = TokenAccountRent(self._endpoints, clock)
        self._identities: list[Check] | None = None
        self._sound: list[Endpoint] = []
        self._known_signer: WalletSigner | None = None

    async def start(self) -> None:
        """Open the client of the endpoints."""
        self._endpoints.wire.start()

    async def stop(self) -> None:
        """Close it, and the connections of the signer."""
        try:
            if self._known_signer is not None:
                await self._known_signer.close()
        finally:
            await self._endpoints.stop()

    # --- Checks

    async def checks(self) -> AsyncIterator[Check]:
        """Check the endpoints, the cluster, the wallet, the tokens and the pools.

        What may disturb the endpoints comes last: calls as fast as they allow.
        """
        async for check in self._endpoint_checks():
            yield check
        signer = self._load_signer()
        if isinstance(signer, Check):
            yield signer
        else:
            async for check in self._signer_checks(signer):
                yield check
        if not self._usable():
            return
        async for check in self._cluster_checks():
            yield check
        for url, endpoint in zip(self._subject.urls, self._endpoints.all, strict=True):
            if endpoint.reads and endpoint in self._sound:
                yield await check_calls(endpoint, url.rps)

    async def _signer_checks(self, signer: WalletSigner) -> AsyncIterator[Check]:
        mode, address = self._subject.mode, str(signer.public_key)
        if mode is TradingMode.SIMULATE:
            yield Check.ok("signer", address, "only watched: with SOLANA_MODE=simulate nothing is signed")
            return
        yield await check_signer(signer, self._subject.signer_timeout_s)
        if mode is not TradingMode.LIVE:
            return
        try:
            self._subject.check_limits(signer)
        except InvalidSettingError as error:
            yield Check.failed("real money", address, str(error), "see docs/solana.md, Real money")
        else:
            yield Check.ok("real money", address, "the owner has named this wallet, and there are limits")

    async def pool_checks(self) -> AsyncIterator[Check]:
        """Check the listed pools, and their programs.

        Raises:
            VenueUnavailableError: No node answered.
        """
        await self._ready()
        for check in await self._guarded("program", self._program_checks()):
            yield check
        for check in await self._guarded("pool", self._pool_checks()):
            yield check

    async def _endpoint_checks(self) -> AsyncIterator[Check]:
        identities = await self._identify()
        accounts = self._busy_accounts()
        proving = 0
        for identity, endpoint in zip(identities, self._endpoints.all, strict=True):
            yield identity
            if endpoint not in self._sound:
                continue
            if endpoint.reads:
                yield check_lag(endpoint)
                yield await check_version_1(endpoint, ANYBODY, accounts)
                history, proves = await check_history(endpoint, is_young=self._subject.is_local)
                proving += proves
                yield history
            if endpoint.sends:
                yield await check_sends(endpoint)
        real_money = self._subject.cluster == Cluster.MAINNET
        yield check_enough(self._subject.urls, len(self._usable()), proving, real_money=real_money)

    async def _cluster_checks(self) -> AsyncIterator[Check]:
        """Check what any endpoint can be asked, each part although another one could not be checked."""
        for name, part in (
            ("program", self._program_checks),
            ("clock", self._clock_checks),
            ("token", self._token_checks),
            ("sol", self._sol_checks),
            ("pool", self._pool_checks),
        ):
            for check in await self._guarded(name, part()):
                yield check

    async def _clock_checks(self) -> list[Check]:
        return [await check_clock(self._endpoints, self._clock), await check_alpenglow(self._endpoints)]

    async def _program_checks(self) -> list[Check]:
        listed = self._load_pools()
        used = set() if isinstance(listed, Check) else {each.program for each in listed}
        return await check_programs(
            self._endpoints, self._subject.ids, used, are_doubles=self._subject.is_local
        )

    async def _token_checks(self) -> list[Check]:
        tokens = self._load_tokens()
        if isinstance(tokens, Check):
            return [tokens]
        mints = await read_mints(self._endpoints, [token.mint for token in tokens])
        return check_tokens(tokens, mints)

    async def _sol_checks(self) -> list[Check]:
        signer = self._load_signer()
        if isinstance(signer, Check):
            return []
        address = signer.public_key
        account = await read_sol(self._endpoints, address)
        funding = self._subject.funding(str(address))
        return [check_sol(address, account, await self._costs(), funding)]

    async def _pool_checks(self) -> list[Check]:
        listed, tokens = self._load_pools(), self._load_tokens()
        if isinstance(listed, Check):
            return [listed]
        if isinstance(tokens, Check):
            return [Check.failed("pool", "", f"not checked: {tokens.found}", tokens.remedy)]
        token_of = {token.mint: token for token in tokens}.get
        read = await read_pools(self._endpoints, self._programs, listed, token_of)
        trader = await self._trader()
        checks = []
        for each in listed:
            address = str(each.address)
            if address in read.problems:
                remedy = "take it out of SOLANA_POOLS, or correct its entry or its token's"
                checks.append(Check.failed("pool", address, read.problems[address], remedy))
            else:
                checks.append(await check_pool(read.pools[address], trader, self._endpoints))
        return [*checks, check_budget(self._subject.urls, read.reads_per_poll, FeedSettings().poll_ms)]

    # --- The wallet and the pools

    def address(self) -> str:
        """Return the wallet's public key.

        Raises:
            InvalidSettingError: There is no usable wallet.
        """
        return str(self._signer().public_key)

    async def holdings(self) -> Sequence[HeldToken]:
        """Return what the wallet holds of each token that may be traded.

        Raises:
            InvalidSettingError: There is no usable wallet, or no usable list of tokens.
            VenueUnavailableError: No node answered.
        """
        address, tokens = self._signer().public_key, self._subject.load_tokens()
        await self._ready()
        try:
            mints = await read_mints(self._endpoints, [token.mint for token in tokens])
            return await read_holdings(self._endpoints, address, tokens, mints)
        except (RpcError, AmmError) as error:
            raise VenueUnavailableError(f"the wallet cannot be read: {error}") from error

    async def discover(self, first: str, second: str) -> Discovery:
        """Find the pools of two tokens, each named by its symbol or its mint.

        Raises:
            InspectionError: A token is not known.
            VenueUnavailableError: No node answered.
        """
        await self._ready()
        tokens, listed = self._load_tokens(), self._load_pools()
        known: Sequence[Token] = [SOL] if isinstance(tokens, Check) else tokens
        addresses = frozenset[str]()
        if not isinstance(listed, Check):
            addresses = frozenset(str(each.address) for each in listed)
        try:
            return await discover(self._endpoints, self._programs, known, addresses, (first, second))
        except RpcError as error:
            raise VenueUnavailableError(str(error)) from error

    def list_pools(self, pools: Sequence[FoundPool]) -> str:
        """Add pools to the list of the settings, and return its file.

        Raises:
            InspectionError: The list cannot be written, or the venue has one of its own.
        """
        if self._subject.is_local:
            raise InspectionError("the sandbox has pools of its own, and no list to write to")
        found = [(each.program, each.address) for each in pools]
        try:
            add_pools(self._subject.pools_file, self._subject.ids, found)
        except InvalidListError as error:
            raise InspectionError(str(error)) from error
        return str(self._subject.pools_file)

    # --- Parts

    async def _identify(self) -> list[Check]:
        """Return the check of each endpoint's cluster, and compare the endpoints of the right one."""
        if self._identities is None:
            said = await asyncio.gather(*(identify(each) for each in self._endpoints.all))
            readers_first = sorted(said, key=lambda each: not each.endpoint.reads)
            hashes = filter(None, (each.genesis_hash for each in readers_first))
            expected = self._subject.genesis_hash or next(hashes, None)
            self._identities = [check_identity(each, expected, self._subject.cluster) for each in said]
            self._sound = [
                endpoint
                for endpoint, check in zip(self._endpoints.all, self._identities, strict=True)
                if check.result is not CheckResult.FAILED
            ]
            await self._endpoints.check()
        return self._identities

    async def _ready(self) -> None:
        """Find an endpoint to read from.

        Raises:
            VenueUnavailableError: There is none; the message says why of each.
        """
        identities = await self._identify()
        if not self._usable():
            failed = [each for each in identities if each.result is not CheckResult.OK]
            lags = [check_lag(each) for each in self._sound if each.reads]
            reasons = [f"{each.subject}: {each.found}" for each in (*failed, *lags)]
            raise VenueUnavailableError("; ".join(reasons))

    def _usable(self) -> list[Endpoint]:
        return [each for each in self._sound if each.reads and each.slot and each.lag <= QUOTE_LAG_SLOTS]

    def _busy_accounts(self) -> list[str]:
        """Return accounts that may have transactions to read: the wallet, and listed pools."""
        signer, listed = self._load_signer(), self._load_pools()
        accounts = [] if isinstance(signer, Check) else [str(signer.public_key)]
        accounts += [] if isinstance(listed, Check) else [str(each.address) for each in listed]
        return accounts[:_ACCOUNTS_TO_READ]

    def _signer(self) -> WalletSigner:
        # Only once: a variable that holds a key is gone after that.
        if self._known_signer is None:
            self._known_signer = self._subject.load_signer()
        return self._known_signer

    def _load_signer(self) -> WalletSigner | Check:
        try:
            return self._signer()
        except InvalidSettingError as error:
            return Check.failed("signer", "", str(error), _NO_SIGNER)

    def _load_tokens(self) -> Sequence[Token] | Check:
        try:
            return self._subject.load_tokens()
        except InvalidSettingError as error:
            return Check.failed("token", "", str(error), _NO_TOKENS)

    def _load_pools(self) -> Sequence[ListedPool] | Check:
        try:
            return self._subject.load_pools()
        except InvalidSettingError as error:
            return Check.failed("pool", "", str(error), _NO_POOLS)

    async def _costs(self) -> OrderCosts:
        rent = await self._rent.lamports()
        return OrderCosts(self._subject.max_fee, rent, self._subject.sol_reserve)

    async def _trader(self) -> TrialWallet | None:
        signer = self._load_signer()
        if isinstance(signer, Check):
            return None
        costs = await self._costs()
        account = await read_sol(self._endpoints, signer.public_key)
        spendable = max(0, account.lamports - costs.of_one_order)
        return TrialWallet(signer.public_key, spendable, costs.rent, self._subject.hop_margin_bps)

    async def _guarded(self, name: str, checks: Awaitable[list[Check]]) -> list[Check]:
        """Return checks, or the one that says why they could not be made."""
        try:
            return await checks
        except (RpcError, VenueUnavailableError) as error:
            return [
                Check.failed(name, "", f"could not be checked: {error}", "see the endpoints, and repeat it")
            ]
