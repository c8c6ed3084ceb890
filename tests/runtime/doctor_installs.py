"""Environments that the doctor looks at."""

from pathlib import Path


def install(folder: Path, *distributions: str) -> list[str]:
    """Create an environment with the metadata that pip writes for each "name version"."""
    packages = folder / "lib" / "site-packages"
    for each in distributions:
        name, version = each.split()
        metadata = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return [str(packages)]
