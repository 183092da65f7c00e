"""Sessions in pages: how they are read, played, written down and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.transcripts import Block, Ran, blocks, differences, masked, play, recorded

PAGE = """\
# A page

```sh
greeting=hello
```

<!-- exit code 3 -->
```sh
cat <<'EOF'
$greeting
EOF
(exit 3)
```

```text
before
```

Prose, and a picture:

```text
a picture
```

```sh
echo "$greeting" >&2
```

```text
```
"""

TABLE = """\
default/21238629341009d6 RUN_ERROR
submitted 2026-11-28T02:06:47Z, finished 2026-11-28T02:06:47Z
stage         outcome  ended   cpu ms  wall ms   memory
dependencies  OK                            25        \N{EN DASH}
run 1         RE       exit 1      10       10  2.8 MiB
run 1, stdout:
    3"""
LATER = """\
default/00008629341009d6 RUN_ERROR
submitted 2027-01-02T12:06:47Z, finished 2027-01-02T12:06:49Z
stage         outcome  ended   cpu ms  wall ms     memory
dependencies  OK                             2  100.1 MiB
run 1         RE       exit 1    1000     2000        \N{EN DASH}
run 1, stdout:
    3"""


def environment(home: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "XDG_DATA_HOME": str(home)}


def test_a_page_is_played_in_one_shell_and_written_down(tmp_path: Path) -> None:
    session = blocks(PAGE)
    assert [(block.shown, block.exit_code) for block in session] == [(None, 0), ("before\n", 3), ("", 0)]
    ran = play(session, environment(tmp_path), end="true")
    assert ran == [Ran("", 0), Ran("$greeting\n", 3), Ran("hello\n", 0)]
    assert recorded(PAGE, ran) == PAGE.replace("before", "$greeting").replace("```text\n```", "```text\nhello\n```")
    assert blocks(recorded(PAGE, ran))[2].shown == "hello\n"


def test_a_users_directory_is_not_written_down(tmp_path: Path) -> None:
    session = [Block(f"echo data in {tmp_path}/cutor\n", None, 0)]
    assert play(session, environment(tmp_path), end="true")[0].output == "data in /home/you/.local/share/cutor\n"


def test_what_goes_on_behind_a_failure_is_ended(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="gone"):
        play([Block("echo gone; exit 1\n", None, 0)], environment(tmp_path), end=f"touch {tmp_path}/ended")
    assert (tmp_path / "ended").exists()


def test_times_sizes_and_ids_are_no_difference() -> None:
    assert masked(TABLE) == masked(LATER)
    assert masked("at nats://127.0.0.1:4222, data") == masked("at nats://127.0.0.1:36099, data")
    assert masked("       1  02:09:41.111  submitted") == masked("    1042  12:10:41.999  submitted")
    assert masked("    … 147 lines below, 69632 bytes in all") == masked("    … 98 lines below, 4096 bytes in all")
    assert masked("[ 100.0 s] data in /tmp/cutor-demo-x_1/data") == masked("[   0.6 s] data in /var/tmp/cutor-demo-zz/data")
    assert masked("[   0.1 s] child image: removed\n[  12.0 s] set-up is complete") == masked("[   0.5 s] set-up is complete")
    assert masked("a-b: OK\nb: RUN_ERROR\nend") == masked("b: RUN_ERROR\na-b: OK\nend")


@pytest.mark.parametrize(
    ("before", "after"),
    [("RE  ", "SG  "), ("exit 1", "exit 2"), ("run 1 ", "run 2 "), ("    3", "    4"), ("RUN_ERROR", "OK"), (", finished", "")],
)
def test_anything_else_is_one(before: str, after: str) -> None:
    assert masked(TABLE.replace(before, after)) != masked(TABLE)


def test_where_no_number_may_differ_none_does() -> None:
    [block] = blocks("<!-- exact -->\n```sh\nanswer\n```\n\n```text\nsolved   41\n```\n")
    assert differences([block], [Ran("solved  41\n", 0)]) == []
    assert len(differences([block], [Ran("solved  42\n", 0)])) == 1
    assert differences([block._replace(exact=False)], [Ran("solved  42\n", 0)]) == []


def test_a_difference_names_the_commands_and_both_outputs() -> None:
    session = [Block("one\n", "a 1 ms\n", 0), Block("two\n", "b\n", 0), Block("three\n", None, 1), Block("four\n", None, 0)]
    ran = [Ran("a 2 ms\n", 0), Ran("c\n", 0), Ran("", 0), Ran("anything\n", 0)]
    told = differences(session, ran)
    assert [text.partition("\n")[0] for text in told] == ["two", "three"]
    assert "printed\nc\n" in told[0]
    assert "shows\nb\n" in told[0]
    assert "ended with 0, not 1" in told[1]
