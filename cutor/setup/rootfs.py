"""A root file system as one tar, from Debian packages that are unpacked without running their scripts.

Everything streams from archive to tar: owners and modes are those of the packages, so no root is needed here. What
maintainer scripts would have done (accounts, certificates, links) is written as files.
"""

import io
import re
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

MERGED = ("bin", "lib", "lib64", "sbin")
"""Directories that Debian merged into /usr: links in the root, real below it."""

IGNORED = re.compile(
    r"usr/share/(doc|man|locale|info|lintian|bash-completion|bug|doc-base|zsh|fish|perl5|gdb|menu|applications|pixmaps)(/|$)"
    r"|usr/lib/[^/]+/gconv(/|$)"
)
"""What no program in the image reads; gconv, 8 MB, converts character sets other than UTF-8."""

Filter = Callable[[str], str | None]
"""Path in the package (no leading slash) to the path in the tar; None leaves it out."""


def merged_path(path: str) -> str:
    """`path` with its leading `./` gone and what is in `bin`, `lib`, … moved below `usr`.

    An empty string for the root itself and for `bin`, `lib`, …: those are links that RootFileSystem writes.
    """
    path = path.removeprefix(".").strip("/")
    head, _, rest = path.partition("/")
    if head not in MERGED:
        return path
    return f"usr/{path}" if rest else ""


def keep_useful(path: str) -> str | None:
    """The filter for ordinary packages."""
    return None if IGNORED.match(path) else path


class RootFileSystem:
    """Writes one tar; the first of two entries with the same path stays."""

    def __init__(self, output: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by close()
        self._written: set[str] = set()
        for name in MERGED:
            self.directory(f"usr/{name}")
            self.link(name, f"usr/{name}")

    def close(self) -> None:
        """Write the end of the tar."""
        self._tar.close()

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory owned by root."""
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._add(entry)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        entry = tarfile.TarInfo(path)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._add(entry)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file owned by root."""
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), mode
        self._add(entry, io.BytesIO(content))

    def package(self, archive: Path, keep: Filter = keep_useful) -> dict[str, bytes]:
        """Add the files of a .deb that `keep` lets through.

        Returns the content of the regular files it leaves out, for callers that use them otherwise.
        """
        left_out: dict[str, bytes] = {}
        with (
            subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpack,  # noqa: S607
            tarfile.open(fileobj=unpack.stdout, mode="r|") as source,
        ):
            for entry in source:
                self._copy(source, entry, keep, left_out)
        if unpack.returncode != 0:
            raise subprocess.CalledProcessError(unpack.returncode, ["dpkg-deb", str(archive)])
        return left_out

    def _copy(self, source: tarfile.TarFile, entry: tarfile.TarInfo, keep: Filter, left_out: dict[str, bytes]) -> None:
        path = merged_path(entry.name)
        target = keep(path) if path else None
        content = source.extractfile(entry) if entry.isreg() else None
        if target is None:
            if content is not None and not IGNORED.match(path):
                left_out[path] = content.read()
            return
        entry.name = target
        entry.uname = entry.gname = ""
        if entry.islnk():
            entry.linkname = keep(merged_path(entry.linkname)) or entry.linkname
        self._add(entry, content)

    def _add(self, entry: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        if entry.name not in self._written:
            self._written.add(entry.name)
            self._tar.addfile(entry, content)


def read_member(archive: Path, member: str) -> bytes:
    """Content of the regular file `member` (no leading slash) of a .deb. KeyError where there is none."""
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpack,  # noqa: S607
        tarfile.open(fileobj=unpack.stdout, mode="r|") as source,
    ):
        found = {entry.name: content.read() for entry in source if (content := source.extractfile(entry))}
    return found[f"./{member}"]


def accounts() -> Mapping[str, str]:
    """/etc/passwd, group and nsswitch.conf of the image: root, nobody, Nix's build users, one plain user."""
    builders = [f"nixbld{number}" for number in range(1, 9)]
    passwd = [
        "root:x:0:0:root:/root:/bin/sh",
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
        "box:x:1000:1000::/tmp:/bin/sh",
        *(f"{name}:x:{30000 + n}:30000::/var/empty:/usr/sbin/nologin" for n, name in enumerate(builders, start=1)),
    ]
    group = ["root:x:0:", "nogroup:x:65534:", "tty:x:5:", "box:x:1000:", f"nixbld:x:30000:{','.join(builders)}"]
    return {
        "etc/passwd": "\n".join(passwd) + "\n",
        "etc/group": "\n".join(group) + "\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }


def certificate_bundle(files: Mapping[str, bytes]) -> bytes:
    """The certificates of package ca-certificates as one file, in a fixed order."""
    names = sorted(name for name in files if name.endswith(".crt"))
    return b"".join(files[name].rstrip(b"\n") + b"\n" for name in names)
