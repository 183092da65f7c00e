"""The embedded server's configuration as text."""

from pathlib import Path

import pytest

from cutor.bus.embedded import RECOVERY_BYTES_PER_S, recovery_s
from cutor.bus.errors import BusError
from cutor.bus.server_file import SYNC, ServerSettings, quoted, server_configuration, sync_interval_of
from cutor.stack.settings import SYNC_INTERVAL


def settings(**changes: object) -> ServerSettings:
    values = {"directory": Path("/data/nats"), "host": "127.0.0.1", "port": 4222, "password": "secret", **changes}
    return ServerSettings(**values)  # type: ignore[arg-type]


def test_bus_and_configuration_take_the_same_sync_intervals() -> None:
    assert (SYNC.pattern, SYNC.flags) == (SYNC_INTERVAL.pattern, SYNC_INTERVAL.flags)


def test_a_server_directory_tells_its_sync_interval(tmp_path: Path) -> None:
    file = tmp_path / "nats-server.conf"
    assert sync_interval_of(tmp_path) is None
    for interval in ("always", "30s"):
        file.write_text(server_configuration(settings(sync_interval=interval)))
        assert sync_interval_of(tmp_path) == interval
    for damage in (b"", b"\xff", b'sync_interval: "2m"'):
        file.write_bytes(damage)
        assert sync_interval_of(tmp_path) is None


def test_what_the_pitfalls_ask_for_is_written_down() -> None:
    text = server_configuration(settings())
    assert "feature_flags { js_ack_fc_v2: false }" in text
    assert "strict: true" in text
    assert "max_payload: 8388608" in text
    assert 'sync_interval: "2m"' in text
    assert 'listen: "127.0.0.1:4222"' in text
    assert "$JS.API.STREAM.DELETE.>" in text


def test_an_older_server_gets_no_feature_flags() -> None:
    assert "feature_flags" not in server_configuration(settings(feature_flags=False))


@pytest.mark.parametrize("interval", ["always", "500ms", "10s", "2m", "1h"])
def test_sync_intervals(interval: str) -> None:
    assert f'sync_interval: "{interval}"' in server_configuration(settings(sync_interval=interval))


@pytest.mark.parametrize("interval", ["", "never", "0s", "2", '2m"\nport: 1'])
def test_sync_intervals_that_are_none(interval: str) -> None:
    with pytest.raises(BusError, match="sync_interval"):
        server_configuration(settings(sync_interval=interval))


def test_a_path_is_quoted_and_cannot_end_its_string() -> None:
    assert quoted('/a "b" \\c') == '"/a \\"b\\" \\\\c"'
    with pytest.raises(BusError, match="control character"):
        quoted("/a\nport: 1")


def test_a_server_has_time_for_what_its_streams_hold(tmp_path: Path) -> None:
    """A hundred million events of 400 bytes are more than any fixed time is enough for; what is no message counts not."""
    assert recovery_s(tmp_path) == 0
    blocks = tmp_path / "jetstream" / "$G" / "streams" / "EVENTS" / "msgs"
    blocks.mkdir(parents=True)
    for number in range(4):
        with (blocks / f"{number}.blk").open("wb") as block:
            block.truncate(10 << 30)
    (blocks / "index.db").write_bytes(bytes(1000))
    assert recovery_s(tmp_path) == (40 << 30) / RECOVERY_BYTES_PER_S
