"""Whether this machine is a Jetson. Advice for other machines would break a working installation there."""

from pathlib import Path

# The version of Jetson Linux, such as "# R36 (release), REVISION: 4.3, GCID: ...".
RELEASE = Path("/etc/nv_tegra_release")


def on_jetson() -> bool:
    """Return whether this machine is a Jetson."""
    return RELEASE.is_file()
