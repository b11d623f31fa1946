"""Copy what is taken from others unchanged, as the ``VENDOR.toml`` in each of the folders pins it.

``python .ci/vendor.py`` fetches the pinned archives with npm, checks the SHA-256 of each archive and file, and writes
the files. ``--pin PACKAGE VERSION`` pins another version first, with what npm delivers now: read the difference before
committing it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "coord" / "web" / "page" / "vendor", ROOT / "tests" / "web" / "page" / "vendor")
HEADER = "# What is taken from others, unchanged. Written and compared by .ci/vendor.py.\n\n"


def main() -> None:
    """Write the files that the pins name."""
    package, version = sys.argv[2:] if sys.argv[1:2] == ["--pin"] else ("", "")
    for folder in FOLDERS:
        pins = tomllib.loads((folder / "VENDOR.toml").read_text())
        if package:
            if pins["package"] == package:
                write(folder, {**pins, "version": version}, new=True)
        else:
            write(folder, pins, new=False)


def write(folder: Path, pins: dict[str, object], *, new: bool) -> None:
    """Write the files of one folder; ``new``: pin what is found, too."""
    archive = fetched(f"{pins['package']}@{pins['version']}")
    assert isinstance(pins["files"], dict)
    files = {name: member(archive, name) for name in pins["files"]}
    found = {**pins, "archive": sha256(archive), "files": {name: sha256(data) for name, data in files.items()}}
    if new:
        (folder / "VENDOR.toml").write_text(HEADER + described(found))
    elif found != pins:
        sys.exit(f"vendor: {pins['package']} is not the pinned one; nothing was written")
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


def fetched(package: str) -> bytes:
    """Return the archive of a package as the npm registry has it."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["npm", "pack", "--silent", package]
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - words of ours
        (archive,) = Path(folder).iterdir()
        return archive.read_bytes()


def member(archive: bytes, name: str) -> bytes:
    """Return one file of an archive of npm's."""
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            found = tar.extractfile(f"package/{name}")
            assert found is not None, name
            return found.read()


def sha256(data: bytes) -> str:
    """Return a digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def described(pins: dict[str, object]) -> str:
    """Return the pins as TOML."""
    plain = "".join(f'{name} = "{pins[name]}"\n' for name in ("package", "version", "licence", "archive"))
    files = pins["files"]
    assert isinstance(files, dict)
    return f"{plain}\n[files]\n" + "".join(f'"{name}" = "{digest}"\n' for name, digest in files.items())


if __name__ == "__main__":
    main()
