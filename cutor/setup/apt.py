"""Debian packages by the machine's apt, with lists and archives of our own beside the machine's.

Nothing here changes the machine: no root is needed, no package is installed. apt checks every list against Debian's
archive key and every package against its list. The mirror's address comes from the machine's own apt sources.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cutor.setup.console import SetupError, run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_DIRECTORY = Path("/etc/apt")
MIRROR_SETTING = "CUTOR_DEBIAN_MIRROR"


@dataclass(frozen=True)
class Source:
    """One suite of one repository, as an entry of apt's sources names it."""

    uri: str
    suite: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Package:
    """A package that apt chose: `file_name` is what apt calls its archive, `:` of an epoch written as %3a."""

    name: str
    version: str
    file_name: str


def parse_one_line_sources(text: str) -> list[Source]:
    """Entries of a `sources.list`: `deb [options] URI SUITE COMPONENT…`. Other lines are skipped."""
    found = []
    for line in text.splitlines():
        entry = re.sub(r"\[[^\]]*\]", " ", line.partition("#")[0]).split()
        if len(entry) >= 3 and entry[0] == "deb":
            found.append(Source(entry[1], entry[2], tuple(entry[3:])))
    return found


def parse_deb822_sources(text: str) -> list[Source]:
    """Entries of a `*.sources` file: stanzas of `Field: value`, continued by indented lines."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = []
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            key, colon, value = line.partition(":")
            if line[:1].isspace():
                fields.setdefault(name, []).extend(line.split())
            elif colon:
                name = key.strip().lower()
                fields[name] = value.split()
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[:1] != ["no"]:
            found += [
                Source(uri, suite, tuple(fields.get("components", [])))
                for uri in fields.get("uris", [])
                for suite in fields.get("suites", [])
            ]
    return found


def machine_sources(directory: Path = APT_DIRECTORY) -> list[Source]:
    """Every entry of the machine's apt sources, in apt's order of files."""
    found: list[Source] = []
    files = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    for file in files:
        if file.is_file():
            text = file.read_text(errors="replace")
            if file.suffix == ".list":
                found += parse_one_line_sources(text)
            elif file.suffix == ".sources":
                found += parse_deb822_sources(text)
    return found


def debian_mirror(sources: Iterable[Source], override: str | None, codename: str) -> str:
    """The address of a mirror of Debian's main archive.

    `override` (setting CUTOR_DEBIAN_MIRROR) wins. Else the entry that holds component `main` of release `codename`;
    where several do, one whose path ends in `debian`, as every mirror of the archive itself has it. Raises SetupError.
    """
    if override:
        return override
    candidates = [source for source in sources if source.suite == codename and "main" in source.components]
    candidates.sort(key=lambda source: not urlsplit(source.uri).path.rstrip("/").endswith("/debian"))
    if not candidates:
        raise SetupError(
            f"no mirror of Debian {codename} in the apt sources of this machine; set {MIRROR_SETTING} to the address of one"
        )
    return candidates[0].uri


def release_sources(sources: Iterable[Source], override: str | None, codename: str) -> list[Source]:
    """The suites of release `codename` to take packages from: the release, and the machine's own updates of it."""
    sources = list(sources)
    mirror = debian_mirror(sources, override, codename)
    names = {f"{codename}-updates", f"{codename}-security"}
    updates = [Source(s.uri, s.suite, ("main",)) for s in sources if s.suite in names and "main" in s.components]
    return [Source(mirror, codename, ("main",)), *updates]


def sources_file(sources: Iterable[Source], keyring: Path) -> str:
    """`sources` as the text of a deb822 file that trusts `keyring` alone."""
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {source.suite}\nComponents: {' '.join(source.components)}\n"
        f"Signed-By: {keyring}\n"
        for source in sources
    )


def options(directory: Path) -> list[str]:
    """Arguments of apt-get that put everything it reads and writes under `directory`.

    On the command line, since there they win over the machine's own settings; its proxies and credentials still hold.
    """
    settings = {
        "Dir::Etc::sourcelist": directory / "debian.sources",
        "Dir::Etc::sourceparts": directory / "none",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": directory / "none",
        "Dir::State::lists": directory / "lists",
        "Dir::State::status": directory / "status",
        "Dir::State::extended_states": "/dev/null",
        "Dir::Cache": directory / "cache",
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
        "APT::Default-Release": "",
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Retries": "2",
    }
    return [f"--option={name}={value}" for name, value in settings.items()]


def status_file(assumed: Sequence[str]) -> str:
    """dpkg's list of installed packages for a machine that has nothing but `assumed`."""
    stanza = "Package: {}\nStatus: install ok installed\nVersion: 999:999\nArchitecture: all\nMulti-Arch: foreign\n"
    return "\n".join(f"{stanza.format(name)}Maintainer: nobody\nDescription: assumed\n" for name in assumed)


def parse_print_uris(output: str) -> list[Package]:
    """What `apt-get --print-uris install` lists: `'URI' NAME_VERSION_ARCH.deb SIZE HASH` per package."""
    packages = []
    for line in output.splitlines():
        if line.startswith("'"):
            file_name = line.split()[1]
            name, version, _architecture = file_name.split("_")
            packages.append(Package(name, unquote(version), file_name))
    return packages


@dataclass(frozen=True)
class Repository:
    """Suites that packages are taken from, the directory for our lists and archives of them, and what counts as there."""

    sources: tuple[Source, ...]
    directory: Path
    assumed: tuple[str, ...] = ()

    def path(self, file_name: str) -> Path:
        """Where the archive that apt calls `file_name` is kept."""
        return self.directory / "archives" / file_name

    def prepare(self) -> None:
        """Write the files that apt is pointed to."""
        if not KEYRING.is_file():
            raise SetupError(f"{KEYRING} is missing: install the package debian-archive-keyring")
        for name in ("lists/partial", "cache/archives/partial", "none", "archives"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "debian.sources").write_text(sources_file(self.sources, KEYRING))
        (self.directory / "status").write_text(status_file(self.assumed))

    async def refresh(self) -> None:
        """Fetch the signed lists (10 MB for a whole release)."""
        self.prepare()
        try:
            await self._apt("--error-on=any", "update")
        except SetupError as error:
            wanted = f"{self.sources[0].uri} {self.sources[0].suite}"
            raise SetupError(
                f"the package lists of {wanted} can't be fetched: set {MIRROR_SETTING} to a mirror of Debian that answers",
                error.log,
            ) from error

    async def resolve(self, names: Sequence[str]) -> list[Package]:
        """The packages `names` with all that they depend on, in apt's order."""
        output = await self._apt("--yes", "--print-uris", "install", *names)
        return parse_print_uris(output.decode())

    async def download(self, packages: Sequence[Package]) -> list[Path]:
        """Fetch `packages` unless they are there already; apt checks the digest of both. Paths in the same order."""
        archives = self.directory / "archives"
        await self._apt("download", *(f"{package.name}={package.version}" for package in packages), cwd=archives)
        return [self.path(package.file_name) for package in packages]

    async def _apt(self, *arguments: str, cwd: Path | None = None) -> bytes:
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        return await run(["apt-get", "-q", *options(self.directory), *arguments], env=environment, cwd=cwd)


def mirror_override() -> str | None:
    """The mirror that the user set, if any."""
    return os.environ.get(MIRROR_SETTING) or None
