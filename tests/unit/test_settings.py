"""Settings: the documented defaults, the sources of values, and errors for invalid ones."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from service import settings
from service.domain.amounts import U64_MAX
from service.domain.key_limits import LargestAmount
from service.settings import PPM, FailureRates, InvalidSettingError, Range, load

NOT_PLAIN = [
    *("3_522", "\u0665", "\uff15", "+5", " 5", "5 ", "1 0", "1e3", "5.0", "NaN", "inf", "0x5", "05", "-0"),
    "9" * 5_000,
]
"""Texts that int() or float() accepts, or almost, and that are not plain digits."""

NO_AMOUNTS = ["1000", "SOL", "SOL=0", "DOGE=1", "SOL=1,SOL=2", "SOL=1e9", "SOL=-1"]

MODEST = hypothesis_settings(max_examples=80, deadline=None)

Environment = dict[str, str]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """Give each test its own environment and working folder."""
    monkeypatch.chdir(tmp_path)
    own: Environment = {"HOME": str(tmp_path / "home")}
    with mock.patch.dict(os.environ, own, clear=True):
        yield own


def load_with(**values: str) -> settings.Settings:
    with mock.patch.dict(os.environ, values):
        return load()


def test_the_defaults_are_the_documented_ones() -> None:
    loaded = load()
    assert (loaded.host, loaded.port) == ("127.0.0.1", 3000)
    assert (loaded.database_url, loaded.redis_url) == (None, None)
    assert (loaded.worker_concurrency, loaded.queue_rate_limit_per_minute) == (10, 100)
    assert (loaded.max_retries, loaded.retry_base_delay_ms) == (3, 2_000)
    assert loaded.max_history_entries == 200
    assert (loaded.quote_delay_ms, loaded.execution_delay_ms) == (Range(200, 300), Range(2_000, 3_000))
    assert (loaded.price_variance_ppm, loaded.paper_seed) == (Range(20_000, 50_000), None)
    assert loaded.paper_failure_rates == FailureRates(0, 0, 0)
    assert (loaded.slot_ms, loaded.paper_tx_valid_slots, loaded.paper_balances) == (None, 150, {})
    assert (loaded.max_route_legs, loaded.min_split_gain_bps, loaded.hop_margin_bps) == (4, 1, 5)
    assert (loaded.max_price_impact_bps, loaded.max_order_amounts, loaded.max_day_amounts) == (0, {}, {})
    assert loaded.log_level == "INFO"


def test_data_is_stored_under_the_home_folder(tmp_path: Path) -> None:
    assert load().data_dir.is_relative_to(tmp_path / "home")
    assert load().data_dir.name == "order-execution-engine"


@pytest.mark.parametrize(("text", "path"), [("data", "data"), (" data ", "data"), ("~/data", "home/data")])
def test_a_data_folder_is_made_absolute(tmp_path: Path, text: str, path: str) -> None:
    assert load_with(DATA_DIR=text).data_dir == tmp_path / path


def test_the_working_folders_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\nREDIS_URL=redis://file\n# LOG_LEVEL=DEBUG\n")
    loaded = load()
    assert (loaded.port, loaded.redis_url, loaded.log_level) == (4000, "redis://file", "INFO")


def test_a_parent_folders_env_file_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=4000\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert load().port == 3000


def test_the_environment_takes_precedence_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\nLOG_LEVEL=DEBUG\n")
    loaded = load_with(PORT="5000")
    assert (loaded.port, loaded.log_level) == (5000, "DEBUG")


def test_another_env_file_can_be_given(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\n")
    (tmp_path / "other.env").write_text("LOG_LEVEL=ERROR\n")
    loaded = load(tmp_path / "other.env")
    assert (loaded.port, loaded.log_level) == (3000, "ERROR")


@pytest.mark.parametrize("value", ["", "  "])
@pytest.mark.parametrize(
    "name",
    [
        *("HOST", "PORT", "DATA_DIR", "DATABASE_URL", "REDIS_URL", "REDIS_PREFIX", "LOG_LEVEL", "PAPER_SEED"),
        *("QUOTE_DELAY_MS", "PRICE_VARIANCE", "PAPER_FAILURE_RATE", "MAX_RETRIES", "QUEUE_RATE_LIMIT"),
        *("PAPER_BALANCES", "MAX_ROUTE_LEGS", "MIN_SPLIT_GAIN_BPS", "SLOT_MS", "PAPER_TX_VALID_SLOTS"),
        *("MAX_PRICE_IMPACT_BPS", "MAX_ORDER_AMOUNTS", "MAX_DAY_AMOUNTS", "HOP_MARGIN_BPS"),
    ],
)
def test_an_empty_value_is_an_absent_value(name: str, value: str) -> None:
    assert load_with(**{name: value}) == load()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("PORT", ["x", "-1", "65536", "1.5", *NOT_PLAIN]),
        *((name, NOT_PLAIN) for name in ("DATABASE_CONNECTIONS", "QUEUE_RATE_LIMIT", "MAX_RETRIES")),
        *((name, NOT_PLAIN) for name in ("SLOT_MS", "INSTANCE_TIMEOUT_MS", "QUOTE_TIMEOUT_MS", "PAPER_SEED")),
        ("QUOTE_DELAY_MS", [text for text in NOT_PLAIN if text.strip() != "5"]),
        ("PRICE_VARIANCE", ["\u0660.\u0665", "+0.1", "1e-2", "0_1", "inf"]),
        ("DATABASE_CONNECTIONS", ["1", "101"]),
        ("WORKER_CONCURRENCY", ["0", "10001", "ten"]),
        ("QUEUE_RATE_LIMIT", ["-1", "100001"]),
        ("MAX_RETRIES", ["-1", "11"]),
        ("MAX_HISTORY_ENTRIES", ["9", "1001"]),
        ("RETRY_BASE_DELAY_MS", ["-1", "600001", "2s"]),
        ("QUOTE_DELAY_MS", ["300-200", "-5", "5-", "1-2-3", "1.5", "x", "1e3", "12345678", "\uff11"]),
        ("EXECUTION_DELAY_MS", ["3000-2000", "2 s"]),
        ("PRICE_VARIANCE", ["0.05-0.02", "1.1", "-0.1", ".5", "0.0000001", "5%", "NaN", "1.000001"]),
        ("PAPER_SEED", ["x", "-1", "1.5", "1" * 19, "0x10"]),
        (
            "PAPER_FAILURE_RATE",
            [
                "2",
                "often=0.1",
                "transient=",
                "=0.1",
                "transient=0.6,slippage=0.6",
                "0.1,",
                "late=0.1",
                "slippage=0.1,slippage=0.1",
            ],
        ),
        ("DATABASE_URL", ["db.example/engine", "mysql://db/engine", "host=db"]),
        ("REDIS_URL", ["localhost:6379", "http://redis"]),
        ("LOG_LEVEL", ["TRACE", "20"]),
        ("INSTANCE_TIMEOUT_MS", ["499"]),
        ("SLOT_MS", ["9", "60001"]),
        ("PAPER_TX_VALID_SLOTS", ["0", "100001"]),
        ("MAX_ROUTE_LEGS", ["0", "9", "two"]),
        ("MIN_SPLIT_GAIN_BPS", ["-1", "10001", "0.5"]),
        ("HOP_MARGIN_BPS", ["-1", "1001", "0.5", *NOT_PLAIN]),
        ("MAX_PRICE_IMPACT_BPS", ["-1", "10001", "0.5", "3%", *NOT_PLAIN]),
        *((name, NO_AMOUNTS) for name in ("MAX_ORDER_AMOUNTS", "MAX_DAY_AMOUNTS")),
        (
            "PAPER_BALANCES",
            [
                "1000",
                "SOL",
                "SOL=",
                "=1",
                "DOGE=1",
                "sol=1",
                "SOL=-1",
                "SOL=1e9",
                "SOL=0.0000000001",
                "SOL=18446744073.709551616",
                "SOL=1,SOL=2",
                "SOL=1;USDC=2",
            ],
        ),
    ],
)
def test_an_error_about_a_value_names_the_setting(name: str, values: list[str]) -> None:
    for value in values:
        with pytest.raises(InvalidSettingError, match=f'"{name}"'):
            load_with(**{name: value})


def test_a_password_is_not_repeated_in_an_error() -> None:
    with pytest.raises(InvalidSettingError) as error:
        load_with(DATABASE_URL="user:secret@db/engine")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("PORT", "0", "port", 0),
        ("PORT", "65535", "port", 65_535),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("QUEUE_RATE_LIMIT", "0", "queue_rate_limit_per_minute", 0),
        ("MAX_RETRIES", "0", "max_retries", 0),
        ("QUOTE_DELAY_MS", "0", "quote_delay_ms", Range(0, 0)),
        ("QUOTE_DELAY_MS", "0-300", "quote_delay_ms", Range(0, 300)),
        ("EXECUTION_DELAY_MS", " 5 - 7 ", "execution_delay_ms", Range(5, 7)),
        ("PRICE_VARIANCE", "0", "price_variance_ppm", Range(0, 0)),
        ("PRICE_VARIANCE", "0.000001-1", "price_variance_ppm", Range(1, PPM)),
        ("PRICE_VARIANCE", "0.3", "price_variance_ppm", Range(300_000, 300_000)),
        ("PAPER_SEED", "0", "paper_seed", 0),
        ("PAPER_SEED", "9" * 18, "paper_seed", 10**18 - 1),
        ("PAPER_FAILURE_RATE", "0.05", "paper_failure_rates", FailureRates(50_000, 0, 0)),
        (
            "PAPER_FAILURE_RATE",
            "permanent=0.01, transient=0.1,slippage=0.05",
            "paper_failure_rates",
            FailureRates(100_000, 50_000, 10_000),
        ),
        (
            "PAPER_FAILURE_RATE",
            "slippage=0.5,transient=0.5",
            "paper_failure_rates",
            FailureRates(500_000, 500_000, 0),
        ),
        ("MAX_ROUTE_LEGS", "1", "max_route_legs", 1),
        ("MIN_SPLIT_GAIN_BPS", "0", "min_split_gain_bps", 0),
        ("MAX_PRICE_IMPACT_BPS", "300", "max_price_impact_bps", 300),
        (
            "MAX_ORDER_AMOUNTS",
            "SOL=1000,USDC=150000.5",
            "max_order_amounts",
            {"SOL": LargestAmount(10**12, 9), "USDC": LargestAmount(150_000_500_000, 6)},
        ),
        (
            "PAPER_BALANCES",
            "SOL=1000,USDC=50000.5",
            "paper_balances",
            {"SOL": 10**12, "USDC": 50_000_500_000},
        ),
        ("PRICE_VARIANCE", "0.0200000000-0.05", "price_variance_ppm", Range(20_000, 50_000)),
        (
            "PAPER_BALANCES",
            "So11111111111111111111111111111111111111112=1.0000000000000",
            "paper_balances",
            {"SOL": 10**9},
        ),
        ("PAPER_BALANCES", " BONK = 0 , JUP = 0.000001 ", "paper_balances", {"BONK": 0, "JUP": 1}),
        ("PAPER_BALANCES", "SOL=18446744073.709551615", "paper_balances", {"SOL": 2**64 - 1}),
        ("DATABASE_URL", "postgresql://db/e", "database_url", "postgresql://db/e"),
    ],
)
def test_a_value_is_parsed_in_its_unit(name: str, value: str, field: str, expected: object) -> None:
    assert getattr(load_with(**{name: value}), field) == expected


@MODEST
@given(st.integers(0, PPM), st.integers(0, PPM))
def test_a_fraction_is_parsed_exactly(one: int, other: int) -> None:
    low, high = sorted((one, other))
    text = "-".join(f"{ppm // PPM}.{ppm % PPM:06d}" for ppm in (low, high))
    assert settings._range(text, settings._ppm) == Range(low, high)


@MODEST
@given(st.text("0123456789.-=, ", max_size=12))
def test_any_accepted_rates_sum_to_at_most_1(text: str) -> None:
    try:
        rates = settings._failure_rates(text)
    except ValidationError:
        return
    assert 0 <= rates.transient_ppm + rates.slippage_ppm + rates.permanent_ppm <= PPM


@MODEST
@given(st.text("SOLUDC=.,0123456789 ", max_size=24))
def test_any_accepted_balances_fit_an_account(text: str) -> None:
    try:
        balances = settings._balances(text)
    except ValidationError:
        return
    assert all(0 <= amount <= U64_MAX for amount in balances.values())


def test_a_home_that_does_not_exist_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        mock.patch.dict(os.environ, {"DATA_DIR": "~nosuchuser/x"}),
        pytest.raises(InvalidSettingError, match="DATA_DIR"),
    ):
        load()


def test_an_env_file_that_is_not_utf_8_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"HOST=\xff\n")
    with mock.patch.dict(os.environ), pytest.raises(InvalidSettingError):
        load()
