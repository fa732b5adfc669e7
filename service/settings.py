"""Every setting, typed, with its unit: from the environment and from ``.env`` in the working directory.

Environment variables take precedence over ``.env``. With an invalid value the service does not start; the
message names the setting.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from environs import Env, EnvError
from marshmallow import ValidationError
from platformdirs import user_data_path

from service.domain import chain_times
from service.domain.amounts import InvalidAmountError, parse_amount, split_decimal
from service.domain.key_limits import LargestAmount
from service.domain.tokens import TOKENS, find_token, is_mint, is_symbol
from service.environment import Variables, whole_number
from service.hosts import (
    Network,
    parse_host_patterns,
    parse_networks,
    parse_origins,
    parse_root_path,
)
from service.solana_settings import SANDBOX_FOLDER, Cluster, SolanaSettings, read_solana
from service.urls import parse_postgres_url, parse_redis_url

PPM = 1_000_000
"""Parts per million: fractions are integers of this scale, since money is never a float."""

_LONGEST_DELAY_MS = 9_999_999


class InvalidSettingError(Exception):
    """A setting has an invalid value."""


@dataclass(frozen=True, slots=True)
class Range:
    """An inclusive range of integers."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class FailureRates:
    """How many of a million executions fail in the paper market, by kind, for tests and demos."""

    transient_ppm: int = 0
    slippage_ppm: int = 0
    permanent_ppm: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """The service's settings; docs/configuration.md explains each."""

    host: str
    port: int
    allow_anonymous: bool
    requests_per_second: int
    allowed_hosts: tuple[str, ...]
    cors_origins: tuple[str, ...]
    trusted_proxies: tuple[Network, ...]
    root_path: str
    data_dir: Path
    database_url: str | None
    redis_url: str | None
    database_connections: int
    worker_concurrency: int
    queue_rate_limit_per_minute: int
    max_retries: int
    retry_base_delay_ms: int
    max_history_entries: int
    quote_delay_ms: Range
    quote_timeout_ms: int
    market_update_ms: int
    max_market_quotes: int
    max_route_legs: int
    min_split_gain_bps: int
    hop_margin_bps: int
    execution_delay_ms: Range
    price_variance_ppm: Range
    paper_seed: int | None
    paper_balances: dict[str, int]
    paper_failure_rates: FailureRates
    paper_faults_ppm: dict[str, int]
    paper_listing_every_s: int
    slot_ms: int | None
    paper_tx_valid_slots: int
    insert_queue_limit: int
    write_group_limit: int
    insert_timeout_ms: int
    shutdown_grace_s: int
    head_timeout_s: int
    body_timeout_s: int
    idle_timeout_s: int
    answer_timeout_s: int
    max_connections: int
    instance_timeout_ms: int
    outcome_timeout_ms: int
    max_market_order_age_s: int
    max_price_impact_bps: int
    max_order_amounts: dict[str, LargestAmount]
    max_day_amounts: dict[str, LargestAmount]
    approval_timeout_s: int
    webhook_allow_private: bool
    webhook_timeout_s: int
    redis_prefix: str
    crash_at: str | None
    log_level: str
    solana: SolanaSettings | None
    """None: the venue is the paper market."""


def load(env_file: Path | None = None) -> Settings:
    """Load the settings.

    Args:
        env_file: Read this instead of ``.env`` in the working directory.

    Raises:
        InvalidSettingError: A value is invalid; the message names the setting.
    """
    env = Env()
    try:
        env.read_env(str(env_file or Path.cwd() / ".env"), recurse=False)
        return _read(Variables(env))
    except UnicodeDecodeError as error:
        raise InvalidSettingError(f".env is not UTF-8: {error}") from error
    except EnvError as error:
        raise InvalidSettingError(str(error)) from error


def _read(env: Variables) -> Settings:
    on_solana = env.parsed("VENUE", "paper", _venue) == "solana"
    data_dir = env.parsed("DATA_DIR", str(_default_data_dir()), _folder)
    solana = read_solana(env, data_dir) if on_solana else None
    # A chain's end is known later than the paper market's, and no worker waits for it.
    workers, outcome_ms = (50, 45_000) if on_solana else (10, 10_000)
    lists_tokens = solana is not None and solana.cluster is not Cluster.SANDBOX
    return Settings(
        host=env.text("HOST") or "127.0.0.1",
        port=env.integer("PORT", 3000, 0, 65535),
        allow_anonymous=env.integer("ALLOW_ANONYMOUS", 0, 0, 1) == 1,
        requests_per_second=env.integer("REQUESTS_PER_SECOND", 0, 0, 1_000_000),
        allowed_hosts=env.hosts("ALLOWED_HOSTS", parse_host_patterns),
        cors_origins=env.hosts("CORS_ORIGINS", parse_origins),
        trusted_proxies=env.hosts("TRUSTED_PROXIES", parse_networks),
        root_path=env.hosts("ROOT_PATH", parse_root_path),
        data_dir=data_dir / SANDBOX_FOLDER if solana is not None and solana.has_own_chain else data_dir,
        database_url=env.url("DATABASE_URL", parse_postgres_url, "postgresql://", "postgres://"),
        redis_url=env.url("REDIS_URL", parse_redis_url, "redis://", "rediss://", "unix://"),
        database_connections=env.integer("DATABASE_CONNECTIONS", 8, 2, 100),
        worker_concurrency=env.integer("WORKER_CONCURRENCY", workers, 1, 10_000),
        queue_rate_limit_per_minute=env.integer("QUEUE_RATE_LIMIT", 100, 0, 100_000),
        max_retries=env.integer("MAX_RETRIES", 3, 0, 10),
        retry_base_delay_ms=env.integer("RETRY_BASE_DELAY_MS", 2_000, 0, 600_000),
        max_history_entries=env.integer("MAX_HISTORY_ENTRIES", 200, 10, 1_000),
        quote_delay_ms=env.parsed("QUOTE_DELAY_MS", "200-300", lambda text: _range(text, _milliseconds)),
        quote_timeout_ms=env.integer("QUOTE_TIMEOUT_MS", 2_000, 1, 60_000),
        market_update_ms=env.integer("MARKET_UPDATE_MS", 100, 10, 60_000),
        max_market_quotes=env.integer("MAX_MARKET_QUOTES", 200, 1, 10_000),
        max_route_legs=env.integer("MAX_ROUTE_LEGS", 4, 1, 8),
        min_split_gain_bps=env.integer("MIN_SPLIT_GAIN_BPS", 1, 0, 10_000),
        hop_margin_bps=env.integer("HOP_MARGIN_BPS", 5, 0, 1_000),
        execution_delay_ms=env.parsed(
            "EXECUTION_DELAY_MS", chain_times.LANDING_MS, lambda text: _range(text, _milliseconds)
        ),
        price_variance_ppm=env.parsed("PRICE_VARIANCE", "0.02-0.05", lambda text: _range(text, _ppm)),
        paper_seed=env.integer("PAPER_SEED", 0, 0, 10**18 - 1) if env.text("PAPER_SEED") else None,
        paper_balances=env.parsed("PAPER_BALANCES", "", _balances),
        paper_failure_rates=env.parsed("PAPER_FAILURE_RATE", "0", _failure_rates),
        paper_faults_ppm=env.parsed("PAPER_FAULTS", "", _faults),
        paper_listing_every_s=env.integer("PAPER_LISTING_EVERY_S", 0, 0, 86_400),
        slot_ms=env.integer("SLOT_MS", 0, 10, 60_000) if env.text("SLOT_MS") else None,
        paper_tx_valid_slots=env.integer("PAPER_TX_VALID_SLOTS", chain_times.VALID_SLOTS, 1, 100_000),
        insert_queue_limit=env.integer("INSERT_QUEUE_LIMIT", 2_000, 1, 1_000_000),
        write_group_limit=env.integer("WRITE_GROUP_LIMIT", 500, 1, 5_000),
        insert_timeout_ms=env.integer("INSERT_TIMEOUT_MS", 5_000, 100, 60_000),
        shutdown_grace_s=env.integer("SHUTDOWN_GRACE_S", 10, 0, 600),
        head_timeout_s=env.integer("HEAD_TIMEOUT_S", 10, 1, 3_600),
        body_timeout_s=env.integer("BODY_TIMEOUT_S", 30, 1, 3_600),
        idle_timeout_s=env.integer("IDLE_TIMEOUT_S", 75, 1, 3_600),
        answer_timeout_s=env.integer("ANSWER_TIMEOUT_S", 30, 1, 3_600),
        max_connections=env.integer("MAX_CONNECTIONS", 10_000, 1, 1_000_000),
        instance_timeout_ms=env.integer("INSTANCE_TIMEOUT_MS", 4_000, 500, 600_000),
        outcome_timeout_ms=env.integer("OUTCOME_TIMEOUT_MS", outcome_ms, 0, 600_000),
        max_market_order_age_s=env.integer("MAX_MARKET_ORDER_AGE_S", 0, 0, 31_536_000),
        max_price_impact_bps=env.integer("MAX_PRICE_IMPACT_BPS", 0, 0, 10_000),
        max_order_amounts=_largest(env, "MAX_ORDER_AMOUNTS", listed=lists_tokens),
        max_day_amounts=_largest(env, "MAX_DAY_AMOUNTS", listed=lists_tokens),
        approval_timeout_s=env.integer("APPROVAL_TIMEOUT_S", 3_600, 1, 31_536_000),
        webhook_allow_private=env.integer("WEBHOOK_ALLOW_PRIVATE", 0, 0, 1) == 1,
        webhook_timeout_s=env.integer("WEBHOOK_TIMEOUT_S", 15, 1, 60),
        crash_at=env.text("CRASH_AT"),
        redis_prefix=env.text("REDIS_PREFIX") or "oee",
        log_level=env.parsed("LOG_LEVEL", "INFO", _log_level),
        solana=solana,
    )


def _default_data_dir() -> Path:
    return user_data_path("order-execution-engine", appauthor=False)


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValidationError(str(error)) from error


def _venue(text: str) -> str:
    if text not in ("paper", "solana"):
        raise ValidationError("must be paper or solana")
    return text


def _log_level(text: str) -> str:
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValidationError("must be DEBUG, INFO, WARNING or ERROR")
    return text.upper()


def _ppm(text: str) -> int:
    """Parse a fraction from 0 to 1 with at most six decimals, exactly, as parts per million."""
    match = re.fullmatch(r"([01])(?:\.([0-9]{1,6})0*)?", text.strip())
    value = int(match[1] + (match[2] or "").ljust(6, "0")) if match else -1
    if not 0 <= value <= PPM:
        raise ValidationError("must be a fraction from 0 to 1 with at most six decimals")
    return value


def _milliseconds(text: str) -> int:
    return whole_number(text.strip(), 0, _LONGEST_DELAY_MS)


def _range(text: str, read: Callable[[str], int]) -> Range:
    """Parse ``low-high``, or one value for both."""
    low_text, dash, high_text = text.partition("-")
    low = read(low_text)
    high = read(high_text) if dash else low
    if low > high:
        raise ValidationError("must be low-high, with low not above high")
    return Range(low, high)


def _balances(text: str) -> dict[str, int]:
    """Parse ``SOL=1000,USDC=50000.5``, or nothing, as base units by token."""
    balances: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, amount = (word.strip() for word in part.partition("="))
        token = find_token(name)
        if token is None or token.symbol in balances:
            raise ValidationError(f"must be token=amount for {', '.join(TOKENS)}, each at most once")
        try:
            balances[token.symbol] = 0 if amount == "0" else parse_amount(amount, token.decimals)
        except InvalidAmountError as error:
            raise ValidationError(f"{token.symbol}'s amount {error}") from None
    return balances


def _largest(env: Variables, name: str, *, listed: bool) -> dict[str, LargestAmount]:
    """Read ``SOL=1000,USDC=150000.5``, none of them zero; ``listed``: also of tokens that are not known yet.

    The venue's list has those; ``service.chains.order_limits`` checks that it does.
    """
    return env.parsed(name, "", lambda text: dict(_largest_amounts(text, listed=listed)))


def _largest_amounts(text: str, *, listed: bool) -> Iterator[tuple[str, LargestAmount]]:
    known = set()
    for part in filter(None, text.split(",")):
        name, _, amount = (word.strip() for word in part.partition("="))
        token = find_token(name)
        symbol = name if token is None else token.symbol
        if symbol in known or (token is None and not (listed and (is_symbol(name) or is_mint(name)))):
            tokens = "the tokens of SOLANA_TOKENS and SOL" if listed else ", ".join(TOKENS)
            raise ValidationError(f"must be token=amount for {tokens}, each at most once")
        known.add(symbol)
        try:
            decimals = len(split_decimal(amount)[1]) if token is None else token.decimals
            yield symbol, LargestAmount(parse_amount(amount, decimals), decimals)
        except InvalidAmountError as error:
            raise ValidationError(f"{symbol}'s amount {error}") from None


def _failure_rates(text: str) -> FailureRates:
    """Parse ``0.05`` (transient), or ``transient=0.1,slippage=0.05,permanent=0.01``."""
    rates = _rates(text if "=" in text else f"transient={text}", ("transient", "slippage", "permanent"))
    return FailureRates(rates.get("transient", 0), rates.get("slippage", 0), rates.get("permanent", 0))


def _faults(text: str) -> dict[str, int]:
    """Parse ``lost_answer=0.2,late=0.05``, or nothing."""
    return (
        _rates(text, ("lost_answer", "late", "never", "refuse", "slow", "down", "unsigned")) if text else {}
    )


def _rates(text: str, kinds: tuple[str, ...]) -> dict[str, int]:
    """Parse ``kind=rate,...`` as parts per million by kind, at most one in total."""
    rates: dict[str, int] = {}
    for part in text.split(","):
        kind, _, rate = (word.strip() for word in part.partition("="))
        if kind not in kinds or kind in rates:
            raise ValidationError(f"must be kind=rate for {', '.join(kinds)}, each at most once")
        rates[kind] = _ppm(rate)
    if sum(rates.values()) > PPM:
        raise ValidationError("must not add up to more than 1")
    return rates
