"""Carry Python packages and data to a machine that cannot reach a package index, in parts of a limited size.

    python benchmarks/gpu/pack.py pack --name lean --mib 34 --require msgspec==0.22.0 av==18.1.0
    python benchmarks/gpu/pack.py pack --name data --mib 34 --compress gz --add faces.npz=data/faces.npz
    python3 benchmarks/gpu/pack.py unpack parts/lean1 parts/lean2 --into /tmp/site     # on that machine

`pack` downloads the wheels of the named packages, without what they depend on, and writes the folders lean1,
lean2, ... into --out. Each holds a piece of one archive and the list of all pieces with their SHA-256. The
folders may travel one by one: `unpack` keeps the pieces that it has seen in --into, and extracts the archive
once it has all of them. --into then belongs on PYTHONPATH.

Both need Python's standard library alone; `pack` with --require also needs pip.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LIST = "pieces.json"
COMPRESSIONS = ("none", "gz", "xz")
# pip matches these exactly; together they cover glibc 2.17 to 2.34.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 24, 17)] + ["manylinux2014_x86_64"]
_BLOCK = 1 << 20


class PackError(Exception):
    """What a user can fix, in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    args = parser().parse_args(argv)
    try:
        if args.command == "pack":
            for folder in pack(args):
                print(f"{folder}: {_mib(folder)} MiB")
        else:
            for folder in args.parts:
                print(unpack(folder, args.into), flush=True)
    except (PackError, OSError, subprocess.CalledProcessError) as error:
        print(f"pack: error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("pack", help="write parts").add_argument
    add("--name", required=True, help="name of the parts, which are numbered")
    add("--mib", type=float, default=34, help="largest part in MiB (default: %(default)s)")
    add("--out", type=Path, default=Path("parts"), help="folder of the parts (default: %(default)s)")
    add("--require", nargs="*", default=[], metavar="PACKAGE", help="packages as pip names them")
    add("--python", default="3.12", help="version of Python there (default: %(default)s)")
    add("--platform", nargs="*", default=PLATFORMS, help="platform tags of wheels that run there")
    add("--add", nargs="*", default=[], metavar="PATH=NAME", help="files or folders, and their names there")
    add("--compress", choices=COMPRESSIONS, default="xz", help="compression (default: %(default)s)")
    add = commands.add_parser("unpack", help="take parts, and extract what is complete").add_argument
    add("parts", nargs="+", type=Path, help="folders that `pack` wrote")
    add("--into", type=Path, required=True, help="folder to extract into")
    return parser


def pack(args: argparse.Namespace) -> list[Path]:
    """Write the parts and return their folders."""
    with tempfile.TemporaryDirectory() as temporary:
        archive, packages = Path(temporary, "archive"), Path(temporary, "packages")
        packages.mkdir()
        if args.require:
            _install(args, packages)
        entries = [(path, path.name) for path in sorted(packages.iterdir())]
        for each in args.add:
            path, _, name = each.rpartition("=")
            if not path or not Path(path).exists():
                raise PackError(f"--add {each}: expected PATH=NAME with a path that exists")
            entries.append((Path(path), name))
        if not entries:
            raise PackError("nothing to pack: expected --require or --add")
        mode: Any = "w" if args.compress == "none" else f"w:{args.compress}"
        with tarfile.open(archive, mode) as tar:
            for path, name in entries:
                tar.add(path, name)
        return _split(archive, args)


def _install(args: argparse.Namespace, folder: Path) -> None:
    """Let pip choose the wheels for the other machine and lay them out in `folder`."""
    platforms = [word for each in args.platform for word in ("--platform", each)]
    options = ["--no-deps", "--only-binary=:all:", "--no-compile", "--implementation", "cp"]
    where = ["--python-version", args.python, *platforms, "--target", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *options, *where, *args.require], check=True
    )


def _split(archive: Path, args: argparse.Namespace) -> list[Path]:
    """Split an archive into equal pieces, one per folder."""
    size = archive.stat().st_size
    count = -(-size // int(args.mib * _BLOCK - 16384))  # room for the list
    length = -(-size // count)
    pieces: list[dict[str, Any]] = []
    for old in args.out.glob(f"{args.name}[0-9]*"):
        shutil.rmtree(old)
    folders = [args.out / f"{args.name}{number}" for number in range(1, count + 1)]
    with archive.open("rb") as file:
        for number, folder in enumerate(folders, 1):
            folder.mkdir(parents=True)
            content = file.read(length)
            name = f"{args.name}.{number:03}"
            (folder / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            pieces.append({"name": name, "bytes": len(content), "sha256": digest})
    listing = {"name": args.name, "bytes": size, "sha256": _sha256(archive), "pieces": pieces}
    for folder in folders:
        (folder / LIST).write_text(json.dumps(listing, indent=1), encoding="utf-8")
    return folders


def unpack(part: Path, into: Path) -> str:
    """Take the pieces of a part; extract the archive if none is missing any more.

    Args:
        part: A folder that `pack` wrote.
        into: Folder to extract into.

    Returns:
        A line that says what was done.

    Raises:
        PackError: The part is damaged, or belongs to another archive than the pieces before it.
    """
    path = part / LIST
    if not path.is_file():
        raise PackError(f"{part} has no {LIST}: expected a folder that `pack` wrote")
    listing = json.loads(path.read_text(encoding="utf-8"))
    name, kept = listing["name"], into / ".pieces" / listing["sha256"]
    if (kept / "done").exists():
        return f"{name}: extracted before"
    kept.mkdir(parents=True, exist_ok=True)
    for piece in listing["pieces"]:
        source = part / piece["name"]
        if not source.is_file():
            continue
        if _sha256(source) != piece["sha256"]:
            raise PackError(f"{source} is damaged: its SHA-256 is not that of {path}; copy it again")
        shutil.copyfile(source, kept / piece["name"])
    missing = [piece["name"] for piece in listing["pieces"] if not (kept / piece["name"]).is_file()]
    if missing:
        return f"{name}: {len(missing)} of {len(listing['pieces'])} pieces are missing: {', '.join(missing)}"
    archive = kept / "archive"
    with archive.open("wb") as file:
        for piece in listing["pieces"]:
            with (kept / piece["name"]).open("rb") as source_file:
                shutil.copyfileobj(source_file, file, _BLOCK)
    if _sha256(archive) != listing["sha256"]:
        raise PackError(f"{name}: the joined archive is damaged; delete {kept} and unpack all parts again")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    archive.unlink()
    for piece in listing["pieces"]:
        (kept / piece["name"]).unlink()
    (kept / "done").touch()
    return f"{name}: extracted into {into}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _mib(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.iterdir()) / _BLOCK, 2)


if __name__ == "__main__":
    sys.exit(main())
