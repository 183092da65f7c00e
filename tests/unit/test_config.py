"""The configuration: what is laid over the built-in values, and what is refused with one line."""

from pathlib import Path

import pytest

from cutor.config import Config, InvalidConfig, Surroundings, check_docker_host, load, parse
from cutor.model.limits import DEFAULT_LIMITS, Policy, check_policy


def surroundings(home: Path, **values: object) -> Surroundings:
    return Surroundings(config_home=home, data_home=home / "share", state_home=home / "state", **values)  # type: ignore[arg-type]


def test_nothing_configured_is_the_built_in_policy() -> None:
    assert Config().policy() == Policy()
    check_policy(Config().policy())


def test_a_partial_table_is_laid_over_the_built_in_limits() -> None:
    policy = parse(b"[limits.run.default]\nwall_time_ms = 3000\n", "c.toml").policy()
    assert policy.limits.run.default.wall_time_ms == 3000
    assert policy.limits.run.default.memory_bytes == DEFAULT_LIMITS.run.default.memory_bytes
    assert policy.limits.run.maximum == DEFAULT_LIMITS.run.maximum
    assert policy.limits.compile == DEFAULT_LIMITS.compile


def test_a_built_in_default_gives_way_to_a_lower_maximum() -> None:
    policy = parse(b"[limits.run.maximum]\nwall_time_ms = 2000\n", "c.toml").policy()
    assert policy.limits.run.default.wall_time_ms == 2000


def test_tenants_replace_the_built_in_one() -> None:
    assert parse(b"[tenants]\ninteractive = 3\nbatch = 1\n", "c.toml").policy().tenants == {"interactive": 3, "batch": 1}


def test_the_image_of_docker_is_that_of_environment_builds_too() -> None:
    assert parse(b'[docker]\nimage = "mine:1"\n', "c.toml").nix.image == "mine:1"
    assert parse(b'[docker]\nimage = "mine:1"\n[nix]\nimage = "other:1"\n', "c.toml").nix.image == "other:1"


REFUSED = [
    (b"foo = 1", "unknown key `foo`"),
    (b"[limits.run.default]\nwalltime = 1", "limits.run.default: unknown key `walltime`"),
    (b"[limits.link.default]\nwall_time_ms = 1", "limits: unknown key `link`"),
    (b'[limits.run.default]\nwall_time_ms = "1s"', "limits.run.default.wall_time_ms"),
    (b"[limits.run.default]\nwall_time_ms = 0", "must be positive"),
    (b"[limits.run.default]\nwall_time_ms = 999999999", "more than the maximum"),
    (b"[limits.run.maximum]\nopen_files = 16385", "limits.run: the maximum open_files 16385 is more than 16384 open files"),
    (b"[limits.compile.maximum]\nprocesses = 4000001", "limits.compile: the maximum processes 4000001 is more than 4000000"),
    (b"[limits.dependencies.maximum]\nmemory_bytes = 9000000000000000000", "limits.dependencies: "),
    (b"[bounds]\nfiles = 0", "bounds.files must be positive"),
    (b"[bounds]\nfiles = 1", "bounds.files is 1: every request needs 2, for shell.nix and cutor-run.sh"),
    (b"[bounds]\nfile_name_bytes = 11", "bounds.file_name_bytes is 11: every request needs 12"),
    (b"[bounds]\nrequest_bytes = 20", "bounds.request_bytes is 20: every request needs 21"),
    (
        b"[bounds]\nrequest_bytes = 1073741824",
        "bounds.request_bytes 1073741824 is more than 201326592 bytes, the most there can be",
    ),
    (b"[bounds]\narg_bytes = 163841", "bounds.arg_bytes 163841 is more than 163840 bytes, the most there can be"),
    (b"[tenants]\nUPPER = 1", "tenants"),
    (b"[tenants]\nbatch = 1\ndefault = 0", "tenants.default: the weight '0' must be a whole number, 1 at least"),
    (b"[tenants]\ndefault = true", "tenants.default: the weight 'True'"),
    (b"[tenants]\n'a\\b' = '2'", "tenants.'a\\\\b': the weight '2'"),
    (b"[tenants]\n", "tenants"),
    (b"[runner]\nslots = 0", "runner.slots"),
    (b"[runner]\nslots_per_tenant = 3", "runner.slots_per_tenant is 3, and there are 2 slots (runner.slots)"),
    (b"[builder]\nslots_per_tenant = 2", "builder.slots_per_tenant is 2, and there are 1 slots (builder.slots)"),
    (b"[runner]\nuid_base = 1000", "runner.uid_base"),
    (b"[runner]\nuid_base = 199999", "runner.uid_base: the runner's uids 199999 to 200004 overlap"),
    (
        b"[runner]\nslots = 1\nuid_base = 199998\npool_maximum = 2",
        "runner.uid_base: the runner's uids 199998 to 200000 overlap",
    ),
    (b"[runner]\npool_minimum = 2\npool_maximum = 1", "runner.pool_minimum: 2 are more than runner.pool_maximum, 1"),
    (b"[runner]\nuid_base = 265535", "runner.uid_base: the runner's uids 265535 to 265540 overlap"),
    (b"[server]\nport = 70000", "server.port"),
    (b"max_leases = true", "max_leases"),
    (b"shutdown_grace_s = -1", "shutdown_grace_s"),
    (b"shutdown_grace_s = 3601", "shutdown_grace_s"),
    (b"shutdown_grace_s = nan", "shutdown_grace_s"),
    (b"shutdown_grace_s = true", "shutdown_grace_s"),
    (b'data_directory = "relative"', "data_directory"),
    (b'[nix]\nnix_path = "a b"', "nix"),
    (b"docker = 1", "docker"),
    (b"= 1", "not valid TOML"),
    (b"\xff", "not valid TOML"),
]


@pytest.mark.parametrize(("raw", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_refused_with_one_line_that_names_file_and_key(raw: bytes, said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse(raw, "/etc/cutor.toml")
    message = str(caught.value)
    assert message.startswith("/etc/cutor.toml: ")
    assert said in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_the_file_asked_for_comes_first_then_the_environment_then_the_users(tmp_path: Path) -> None:
    (tmp_path / "cutor").mkdir()
    users, environments, wanted = tmp_path / "cutor" / "config.toml", tmp_path / "environment.toml", tmp_path / "wanted.toml"
    assert load(None, surroundings(tmp_path)).file is None
    for leases, file in ((4, users), (5, environments), (6, wanted)):
        file.write_text(f"max_leases = {leases}\n")
    assert load(None, surroundings(tmp_path)).config.max_leases == 4
    assert load(None, surroundings(tmp_path, config_file=environments)).config.max_leases == 5
    assert load(wanted, surroundings(tmp_path, config_file=environments)).config.max_leases == 6


def test_uids_just_beside_those_of_build_containers_are_fine() -> None:
    assert parse(b"[runner]\nuid_base = 199994\n", "c").runner.uid_base == 199_994
    assert parse(b"[runner]\nuid_base = 265536\n", "c").runner.uid_base == 265_536


def test_a_file_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read: No such file"):
        load(tmp_path / "none.toml", surroundings(tmp_path))
    with pytest.raises(InvalidConfig, match="cannot be read: Is a directory"):
        load(tmp_path, surroundings(tmp_path))


def test_docker_host_of_the_environment_counts_where_none_is_configured(tmp_path: Path) -> None:
    around = surroundings(tmp_path, docker_host="unix:///run/mine.sock")
    assert load(None, around).config.docker.host == "unix:///run/mine.sock"
    file = tmp_path / "c.toml"
    file.write_text('[docker]\nhost = "unix:///run/other.sock"\n')
    assert load(file, around).config.docker.host == "unix:///run/other.sock"


def test_surroundings_ignore_relative_base_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    monkeypatch.setenv("CUTOR_SERVER", "")
    monkeypatch.setenv("CUTOR_TLS_CA", "ca.pem")
    monkeypatch.chdir(tmp_path)
    read = Surroundings.read()
    assert read.current_stack == tmp_path / ".local/state/cutor/current.json"
    assert read.data_directory(Config()) == Path("/srv/data/cutor")
    assert read.data_directory(Config(data_directory="/srv/x")) == Path("/srv/x")
    assert read.data_directory(Config(data_directory="/srv/x"), tmp_path) == tmp_path
    assert read.server is None
    assert read.tls_ca == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (b'tls_ca = "ca.pem"', "server.tls_ca: 'ca.pem' must be an absolute path"),
        (b'tls_cert = "/c"', "tls_cert and tls_key belong together"),
        (b'tls_key = "/k"', "tls_cert and tls_key belong together"),
        (b"replicas = 0", "replicas"),
        (b"replicas = 6", "replicas"),
    ],
)
def test_settings_of_the_server_that_cannot_work(settings: bytes, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        parse(b"[server]\n" + settings, "c.toml")


def test_a_configuration_of_any_depth_is_one_line() -> None:
    with pytest.raises(InvalidConfig, match=r"c\.toml: nested too deeply"):
        parse(b"x = " + b"[" * 100_000, "c.toml")


@pytest.mark.parametrize("host", ["ssh://me@host", "http://host:2375", "host:2375", ""])
def test_an_address_of_docker_that_cannot_be_talked_to(host: str) -> None:
    with pytest.raises(InvalidConfig, match="unix:// or tcp://"):
        check_docker_host(host)


def test_addresses_of_docker() -> None:
    for host in (None, "unix:///var/run/docker.sock", "tcp://127.0.0.1:2375"):
        check_docker_host(host)


def test_limits_of_all_that_a_container_can_be_given_are_fine() -> None:
    policy = parse(b"[limits.run.maximum]\nopen_files = 16384\nprocesses = 4000000\n[bounds]\nfiles = 2\n", "c").policy()
    assert (policy.limits.run.maximum.open_files, policy.limits.run.maximum.processes) == (16_384, 4_000_000)
