"""The offline package set: it evaluates like nixpkgs, and its programs run where there is nothing but the Nix store."""

import io
import json
import os
import secrets
import tarfile
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest
import pytest_asyncio
from aiodocker import Docker

from cutor.containers.engine import Engine
from cutor.model.limits import DEFAULT_LIMITS, GIB
from cutor.nix.inside.store import LOCK
from cutor.nix.report import Built
from cutor.nix.session import BuildSession
from cutor.nix.settings import NixSettings
from cutor.setup import child_image, engine, volumes, warm
from cutor.setup.console import SetupError
from cutor.setup.docker_api import OneShot, build, image_labels, remove_image, run_once, volume_labels
from tests.stores import lent_store_async

pytestmark = pytest.mark.asyncio(loop_scope="module")

GENEROUS = msgspec.structs.replace(DEFAULT_LIMITS.dependencies.default, cpu_time_ms=240_000, memory_bytes=2 * GIB)

NIX_SETTINGS = """
export HOME=/tmp NIX_REMOTE=local NIX_PATH=nixpkgs=/packages/nixpkgs NIX_CONFIG='
sandbox = false
build-users-group =
substituters =
build-dir = /build
experimental-features = nix-command
'
cd /tmp
"""

LOCKED = f"""
import fcntl, os, sys
lock = os.open("{LOCK}", os.O_RDONLY)
os.set_inheritable(lock, True)
fcntl.flock(lock, fcntl.LOCK_SH)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def docker() -> AsyncIterator[Docker]:
    """A client of the engine; where set-up has not run, a visible skip on a laptop and a failure in CI."""
    if await engine.answers():
        async with Docker() as client:
            if await image_labels(client, child_image.NAME) and await volume_labels(client, volumes.PACKAGES):
                yield client
                return
    if os.environ.get("CI") == "true":
        pytest.fail("the package set is missing: run `make setup`")
    pytest.skip("the package set is missing: run `make setup`")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def paths(docker: Docker) -> Mapping[str, str]:
    """Store path of every package that set-up builds, by its name."""
    expression = "builtins.mapAttrs (name: package: package.outPath) (import /packages/nixpkgs/warm.nix)"
    printed = await nix(docker, f"nix-instantiate --eval --strict --json --expr '{expression}' 2>/dev/null")
    found: dict[str, str] = json.loads(printed)
    return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def empty_image(docker: Docker, paths: Mapping[str, str]) -> AsyncIterator[str]:
    """An image that holds nothing but /bin/sh, a link into the store, as a jail's root has it."""
    name = f"cutor-test-empty:{secrets.token_hex(4)}"
    recipe = b"FROM scratch\nCOPY bin /bin\n"
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(recipe)
        tar.addfile(entry, io.BytesIO(recipe))
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, f"{paths['bash']}/bin/sh"
        tar.addfile(link)
    context.seek(0)
    await build(docker, context, name)
    yield name
    await remove_image(docker, name)


async def nix(
    docker: Docker, script: str, files: Mapping[str, str] | None = None, on: tuple[str, str] = (volumes.STORE, volumes.VAR)
) -> str:
    """Run a script as the store's owner, with Nix, on the volumes `on`; `files` are written beside it first.

    It holds the lock that builds hold: one that finds itself alone would remove what looks left behind.
    """
    writes = "".join(f"cat > {name} <<'END-OF-FILE'\n{text}\nEND-OF-FILE\n" for name, text in (files or {}).items())
    command = ["/usr/bin/python3", "-S", "-c", LOCKED, "/usr/bin/bash", "-euc", NIX_SETTINGS + writes + script]
    return await run_once(docker, warm.build_shot(command, *on), "nix")


async def run(docker: Docker, image: str, paths: Mapping[str, str], script: str, *names: str) -> str:
    """Run a script by the set's bash where the root holds /nix/store, /bin/sh and /tmp alone, `names` and coreutils on PATH."""
    path = ":".join(f"{paths[name]}/bin" for name in ("bash", "coreutils", *names))
    shot = OneShot(
        image,
        [f"{paths['bash']}/bin/bash", "-euc", f"export PATH={path}; cd /tmp\n{script}"],
        user="1000:1000",
        host_config={
            "Mounts": [{"Type": "volume", "Source": volumes.STORE, "Target": "/nix/store", "ReadOnly": True}],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "rw,exec,mode=1777"},
        },
    )
    return await run_once(docker, shot, "the test's program")


async def test_gnu_tools(docker: Docker, empty_image: str, paths: Mapping[str, str]) -> None:
    script = r"""
ls --version | head -n 1
printf 'abc\nxyz\n' | grep -P 'a(?=b)'
printf 'one\0two' | sed -z 's/o/0/g' | tr '\0' '\n'; echo
mkdir -p tree/sub; echo text > tree/sub/file; find tree -type f -printf '%f %s\n'
tar -czf tree.tar.gz tree; tar -tzf tree.tar.gz | tail -n 1; gzip -t tree.tar.gz
echo '3 4' | awk '{ print $1 * $2 }'
printf 'all:\n\t@echo made\n' > Makefile; make --no-print-directory
diff tree/sub/file tree/sub/file && echo same
"""
    names = ("gnugrep", "gnused", "findutils", "gnutar", "gzip", "gawk", "gnumake", "diffutils")
    printed = await run(docker, empty_image, paths, script, *names)
    assert printed.splitlines() == [
        "ls (GNU coreutils) 9.1",
        *("abc", "0ne", "tw0", "file 5", "tree/sub/file", "12", "made", "same"),
    ]


async def test_python(docker: Docker, empty_image: str, paths: Mapping[str, str]) -> None:
    script = """
python3 - <<'END'
import bz2, ctypes, decimal, hashlib, json, lzma, sqlite3, ssl, subprocess, sys, zlib
print(sys.version_info[:2], sys.executable)
print(hashlib.sha256(b"x").hexdigest()[:8], sqlite3.connect(":memory:").execute("select 6*7").fetchone())
print(subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout)
print(json.__cached__.startswith(sys.prefix), ctypes.CDLL("libc.so.6").abs(-3))
END
python --version
"""
    printed = await run(docker, empty_image, paths, script, "python3")
    assert printed.splitlines() == [
        f"(3, 11) {paths['python3']}/bin/python3",
        "2d711642 (42,)",
        "b'1\\n'",
        "True 3",
        "Python 3.11.2",
    ]


async def test_python_modules_are_compiled_and_never_checked(
    docker: Docker, empty_image: str, paths: Mapping[str, str]
) -> None:
    script = """
python3 - <<'END'
import importlib.util, pathlib, sysconfig
root = pathlib.Path(sysconfig.get_path("stdlib"))
broken = {"badsyntax", "lib2to3", "bad_coding"}
sources = [p for p in root.rglob("*.py") if not any(word in str(p) for word in broken)]
caches = [pathlib.Path(importlib.util.cache_from_source(p)) for p in sources]
print(len(sources) > 500, {c.read_bytes()[4] for c in caches})
END
"""
    assert await run(docker, empty_image, paths, script, "python3") == "True {1}\n"


C_PROGRAM = """
#include <math.h>
#include <stdio.h>
int main(int count, char **values) { (void)values; printf("%.3f\\n", sqrt(count + 1.0)); return 0; }
"""
CPP_PROGRAM = """
#include <bits/stdc++.h>
int main() {
    std::vector<int> numbers{3, 1, 2};
    std::ranges::sort(numbers);
    std::jthread([&] { for (int n : numbers) std::cout << n << ' '; }).join();
    try { throw std::runtime_error("caught"); } catch (const std::exception &error) { std::cout << error.what() << '\\n'; }
}
"""
THREADS = """
#include <omp.h>
#include <stdio.h>
int main(void) { int sum = 0;
#pragma omp parallel for reduction(+:sum)
    for (int i = 0; i < 10; i++) sum += i;
    printf("%d\\n", sum); }
"""


async def test_compiled_programs_use_the_loader_and_libc_of_the_store(
    docker: Docker, empty_image: str, paths: Mapping[str, str]
) -> None:
    script = f"""
cat > a.c <<'END'{C_PROGRAM}END
cat > b.cc <<'END'{CPP_PROGRAM}END
gcc -Wall -Wextra -Werror -O2 -o a a.c -lm; ./a
g++ -Wall -Wextra -Werror -std=c++20 -o b b.cc; ./b
readelf -l a b | grep interpreter
LD_TRACE_LOADED_OBJECTS=1 ./b
cc --version | head -n 1; c++ -dumpmachine
"""
    printed = await run(docker, empty_image, paths, script, "gcc", "gnugrep")
    lines = printed.splitlines()
    libraries = f"{paths['runtime']}/lib/x86_64-linux-gnu"
    assert lines[:2] == ["1.414", "1 2 3 caught"]
    assert lines[2:4] == [f"      [Requesting program interpreter: {libraries}/ld-linux-x86-64.so.2]"] * 2
    loaded = [line.split(" => ")[1].split(" ")[0] for line in lines[4:-2] if " => " in line]
    assert len(loaded) >= 3
    assert all(path.startswith(libraries) for path in loaded)


@pytest.mark.parametrize(
    ("flags", "source", "expected"),
    [
        ("-static", C_PROGRAM, "1.414"),
        ("-static-pie", C_PROGRAM, "1.414"),
        ("-no-pie -flto -O3", C_PROGRAM, "1.414"),
        ("-fsanitize=address,undefined", C_PROGRAM, "1.414"),
        ("-fopenmp", THREADS, "45"),
    ],
)
async def test_compiler_flags(
    docker: Docker, empty_image: str, paths: Mapping[str, str], flags: str, source: str, expected: str
) -> None:
    script = f"cat > a.c <<'END'{source}END\ngcc {flags} -o a a.c -lm; ASAN_OPTIONS=detect_leaks=0 ./a"
    assert (await run(docker, empty_image, paths, script, "gcc")).strip() == expected


async def test_a_sanitizer_still_finds_what_it_is_for(docker: Docker, empty_image: str, paths: Mapping[str, str]) -> None:
    script = """
echo 'int main(int c, char **v) { int a[2]; (void)v; return a[c + 5]; }' > a.c
gcc -g -fsanitize=address -o a a.c; ./a 2>&1 || echo "code $?"
"""
    printed = await run(docker, empty_image, paths, script, "gcc")
    assert "stack-buffer-overflow" in printed
    assert "code 1" in printed


async def test_a_shared_library_of_the_users_own(docker: Docker, empty_image: str, paths: Mapping[str, str]) -> None:
    script = """
echo 'int six(void) { return 6; }' > six.c
echo '#include <stdio.h>
int six(void); int main(void) { printf("%d\\n", six() * 7); }' > a.c
gcc -shared -fPIC -o libsix.so six.c; gcc -o a a.c -L. -lsix
LD_LIBRARY_PATH=. ./a
"""
    assert await run(docker, empty_image, paths, script, "gcc") == "42\n"


async def test_node(docker: Docker, empty_image: str, paths: Mapping[str, str]) -> None:
    script = """
echo 'exports.x = 6' > c.cjs
cat > m.mjs <<'END'
import { x } from "./c.cjs";
import { execFileSync } from "node:child_process";
console.log(x * 7, typeof fetch, new Intl.NumberFormat("de").format(1234.5));
console.log(execFileSync(process.execPath, ["-p", "process.versions.node.split('.')[0]"]).toString().trim());
END
node m.mjs
"""
    assert (await run(docker, empty_image, paths, script, "nodejs")).splitlines() == ["42 function 1.234,5", "18"]


async def test_lua(docker: Docker, empty_image: str, paths: Mapping[str, str]) -> None:
    script = "echo 'print(string.format(\"%d %s\", 6 * 7, _VERSION))' > a.lua; lua a.lua; luac -p a.lua"
    assert await run(docker, empty_image, paths, script, "lua") == "42 Lua 5.4\n"


SHELL = """
{ pkgs ? import <nixpkgs> { } }:
let
  greeting = pkgs.writeShellScriptBin "greet" ''echo "greetings from $1"'';
  base = pkgs.mkShell { buildInputs = [ pkgs.lua ]; shellHook = "ORDER=base"; };
in
pkgs.mkShell {
  packages = with pkgs; [ python3 greeting (python3.withPackages (ps: [ ])) ];
  nativeBuildInputs = [ pkgs.gcc ];
  inputsFrom = [ base ];
  PLAIN = "value";
  NUMBER = 7;
  LIST = [ "a" "b" ];
  shellHook = ''
    export ORDER="$ORDER shell"
    export LINES_OF_TEXT="first line
    second  line"
  '';
}
"""


async def test_a_shell_as_users_write_it(docker: Docker) -> None:
    command = (
        'printf "%s\\n" "$PLAIN" "$NUMBER" "$LIST" "$ORDER" "$LINES_OF_TEXT" "$CC"; greet me; python3 -c "print(42)"; '
        'lua -e "print(1)"; gcc -dumpversion; type -p ls; type -p bash; echo "$IN_NIX_SHELL"'
    )
    printed = await nix(docker, f"nix-shell --pure --run '{command}' 2>/dev/null", {"shell.nix": SHELL})
    lines = printed.splitlines()
    assert lines[:5] == ["value", "7", "a b", "base shell", "first line"]
    assert lines[5:11] == ["second  line", "gcc", "greetings from me", "42", "1", "12"]
    assert lines[11].startswith("/nix/store/")
    assert lines[11].endswith("-coreutils-9.1/bin/ls")
    assert lines[12].startswith("/nix/store/")
    assert lines[13] == "pure"


async def test_print_dev_env_gives_the_same_variables(docker: Docker) -> None:
    script = 'nix --quiet print-dev-env --file shell.nix > env.sh; source env.sh; echo "$PLAIN $LIST $CC"; type -p python3'
    lines = (await nix(docker, script, {"shell.nix": SHELL})).splitlines()
    assert lines[-2] == "value a b gcc"
    assert lines[-1].endswith("-python3-3.11.2/bin/python3")


BUILDERS = """
let
  pkgs = import <nixpkgs> { overlays = [ (final: prev: { answer = prev.writeText "answer" "42"; }) ]; };
  hello = pkgs.stdenv.mkDerivation (finalAttrs: {
    pname = "hello";
    version = "1.0";
    src = pkgs.writeTextFile { name = "src"; destination = "/Makefile"; text = "all:\\n\\tgcc -o hello hello.c\\n"; };
    nativeBuildInputs = [ pkgs.gcc ];
    postUnpack = "";
    patchPhase = ''echo 'int puts(const char *); int main(void) { puts("${finalAttrs.pname}"); }' > hello.c'';
    installPhase = ''mkdir -p $out/bin; cp hello $out/bin'';
    passthru.secret = "never in the environment";
  });
in
pkgs.runCommand "all" { nativeBuildInputs = [ hello (hello.overrideAttrs (old: { pname = "other"; })) ]; } ''
  [ -z "''${passthru-}" ]
  {
    cat ${pkgs.answer}; echo
    ${hello}/bin/hello
    ${hello.overrideAttrs { pname = "other"; }}/bin/hello
    ls ${pkgs.symlinkJoin { name = "joined"; paths = [ hello (pkgs.writeScriptBin "x" "#!/bin/sh\\n") ]; }}/bin
    ${pkgs.writeShellApplication { name = "app"; runtimeInputs = [ hello ]; text = "hello"; }}/bin/app
  } > $out
''
"""


async def test_derivations_of_the_users_own(docker: Docker) -> None:
    printed = await nix(
        docker, "cat $(nix-build --quiet --no-out-link all.nix 2>log || { cat log; exit 1; })", {"all.nix": BUILDERS}
    )
    assert printed.splitlines() == ["42", "hello", "other", "hello", "x", "hello"]


LIB = """
with (import <nixpkgs> { }).lib;
assert unique [ 1 2 1 ] == [ 1 2 ];
assert flatten [ 1 [ 2 [ 3 ] ] ] == [ 1 2 3 ];
assert reverseList [ 1 2 3 ] == [ 3 2 1 ] && range 2 4 == [ 2 3 4 ] && range 4 2 == [ ];
assert subtractLists [ 1 ] [ 1 2 1 3 ] == [ 2 3 ];
assert filterAttrs (name: value: value > 1) { a = 1; b = 2; } == { b = 2; };
assert genAttrs [ "a" ] (name: name + "!") == { a = "a!"; };
assert attrByPath [ "a" "b" ] 0 { a.b = 1; } == 1 && attrByPath [ "a" "c" ] 0 { a.b = 1; } == 0;
assert hasPrefix "ab" "abc" && !hasPrefix "b" "abc" && hasSuffix "bc" "abc" && !hasSuffix "abcd" "bcd";
assert removePrefix "a" "abc" == "bc" && removeSuffix "c" "abc" == "ab" && removeSuffix "x" "abc" == "abc";
assert splitString "." "a.b" == [ "a" "b" ] && splitString "+" "a" == [ "a" ];
assert escapeShellArg "it's" == "'it'\\\\''s'" && concatMapStringsSep "," toString [ 1 2 ] == "1,2";
assert optional false 1 == [ ] && optionals true [ 1 ] == [ 1 ] && optionalString false "x" == "";
assert pipe 2 [ (x: x + 1) (x: x * 2) ] == 6 && fix (self: { a = 1; b = self.a + 1; }) == { a = 1; b = 2; };
assert makeBinPath [ "/a" "/b" ] == "/a/bin:/b/bin" && last [ 1 2 ] == 2 && toList 1 == [ 1 ];
true
"""


async def test_lib_means_what_it_means_in_nixpkgs(docker: Docker) -> None:
    assert await nix(docker, "nix-instantiate --eval lib.nix", {"lib.nix": LIB}) == "true\n"


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ("pkgs.rustc", "attribute 'rustc' missing"),
        ("(pkgs.python3.withPackages (ps: [ ps.numpy ]))", "attribute 'numpy' missing"),
    ],
)
async def test_a_package_that_the_set_lacks_fails_by_its_name(docker: Docker, packages: str, message: str) -> None:
    shell = f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ packages = [ {packages} ]; }}"
    with pytest.raises(SetupError) as caught:
        await nix(docker, "nix-build --no-out-link shell.nix", {"shell.nix": shell})
    assert message in caught.value.log


async def test_everything_is_built_and_rooted(docker: Docker, paths: Mapping[str, str]) -> None:
    rooted = (await nix(docker, "cd /nix/var/nix/gcroots/cutor-packages; readlink *")).splitlines()
    assert set(paths.values()) <= set(rooted)
    assert len([path for path in rooted if path.endswith(".drv")]) == len(paths)


async def test_closures_hold_the_runtime_and_nothing_needless(docker: Docker, paths: Mapping[str, str]) -> None:
    for name in ("python3", "gcc", "nodejs", "lua", "coreutils"):
        closure = (await nix(docker, f"nix-store --query --requisites {paths[name]}")).split()
        assert set(closure) == {paths[name], paths["runtime"]}, name


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def empty_store(docker: Docker) -> AsyncIterator[tuple[str, str]]:
    """Volumes of an empty store and its database."""
    async with lent_store_async() as settings:
        yield settings.store_volume, settings.var_volume


async def test_the_whole_set_builds_in_a_sandbox_and_comes_out_the_same(
    docker: Docker, empty_store: tuple[str, str], paths: Mapping[str, str]
) -> None:
    shell = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = with pkgs; [ python3 gcc nodejs lua ]; }"
    store, var = empty_store
    settings = NixSettings(store_volume=store, var_volume=var)
    async with (
        Engine.connect() as client,
        BuildSession(client, settings, instance="test-package-set", submission="default/cold") as session,
    ):
        report = await session.build("5e" * 32, {"shell.nix": shell.encode()}, GENEROUS)
    assert isinstance(report, Built), report
    query = f"nix-store --query --hash {' '.join(paths.values())}"
    assert await nix(docker, query, on=empty_store) == await nix(docker, query)
