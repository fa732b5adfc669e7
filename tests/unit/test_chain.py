"""The chain that is the venue: it is built before any server is started."""

import socket

import pytest

from service.chain import build_chain
from service.settings import InvalidSettingError
from tests.support.clock import ManualClock
from tests.support.settings import load_settings


def test_the_port_of_a_chain_in_this_process_is_given_back_if_a_setting_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: list[socket.socket] = []
    create = socket.create_server

    def create_server(*arguments: object, **options: object) -> socket.socket:
        bound.append(create(*arguments, **options))  # type: ignore[arg-type]
        return bound[-1]

    monkeypatch.setattr(socket, "create_server", create_server)
    settings = load_settings(VENUE="solana", SOLANA_PRIORITY="p0")
    with pytest.raises(InvalidSettingError, match='"SOLANA_PRIORITY"'):
        build_chain(settings, ManualClock())
    assert [each.fileno() for each in bound] == [-1]


def test_the_paper_market_is_no_chain() -> None:
    assert build_chain(load_settings(), ManualClock()).venue is None
