"""What `make bench-env` builds fifty of: each another one, whatever its number, and each with what proves it."""

import subprocess

from tests.bench.generated_shells import VALUES, generated


def test_each_is_another_environment() -> None:
    made = generated(50, "a")
    decides = {tuple(one.files[name] for name in ("shell.nix", *one.environment_files)) for one in made}
    assert len(decides) == 50
    assert len({one.name.partition("-")[0] for one in made}) == 5
    assert not decides & {
        tuple(one.files[name] for name in ("shell.nix", *one.environment_files)) for one in generated(50, "b")
    }


def test_every_value_that_is_hard_to_carry_is_among_them() -> None:
    printed = "".join(one.printed for one in generated(50, "a"))
    assert all(value in printed for value in VALUES)


def test_scripts_are_scripts() -> None:
    for one in generated(50, "a"):
        subprocess.run(["bash", "-n"], input=one.files["cutor-run.sh"].encode(), check=True, timeout=60)
        assert one.printed.count("\n") >= 3
