"""A virtual machine with a camera: Debian's kernel and its test driver `vivid` in QEMU, without KVM.

The machine sees the files of this one read-only, with an overlay in memory, so that no image is built: it
runs the Python of the tests. Needs the Debian packages qemu-system-x86, busybox-static, cpio, kmod and
v4l-utils; the kernel is downloaded once (70 MB) with apt-get and kept in the folder for temporary files.
"""

import gzip
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = ("qemu-system-x86_64", "busybox", "cpio", "depmod", "v4l2-ctl", "apt-get", "dpkg-deb")
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "vivid")
VIVID = "n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0 vid_cap_nr=0 no_error_inj=0"
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in $(cat /mods/order); do
    case $module in
        vivid.ko) insmod /mods/$module OPTIONS || echo FAILED $module;;
        *) insmod /mods/$module || echo FAILED $module;;
    esac
done
mkdir -p /host /layer /root
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /host
mount -t tmpfs tmpfs /layer; mkdir /layer/upper /layer/work
mount -t overlay overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work /root
mount --bind /dev /root/dev; mount -t proc proc /root/proc; mount --bind /sys /root/sys
mkdir -p /root/run/modules; cp /mods/vivid.ko /root/run/modules/
export HOME=/root OPENBLAS_NUM_THREADS=1  # its threads wait for each other in loops
chroot /root /bin/bash -c "$(sed 's/.*command=//' /proc/cmdline | tr '|' ' ')"
echo MACHINE ENDED
poweroff -f
"""


def missing_part() -> str | None:
    """Say what this machine lacks to run the virtual one; None if it lacks nothing."""
    if platform.machine() != "x86_64":
        return f"there is no virtual machine for {platform.machine()}"
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed: see .ci/packages"
    if os.environ.get("CI") != "true" and not (_folder(_package()) / "complete").exists():
        return "the kernel of the virtual machine (70 MB) is downloaded under CI=true only"
    return None


def run_in_machine(command: list[str], seconds: float) -> str:
    """Start the virtual machine, run a command in it, and return what it printed.

    Args:
        command: Program and arguments, without `|`; paths are those of this machine.
        seconds: Time limit for all of it.

    Raises:
        subprocess.TimeoutExpired: The time is over.
    """
    kernel = _kernel()
    with tempfile.TemporaryDirectory(prefix="emotion-vivid-") as folder:
        memory_disk = Path(folder) / "initramfs.gz"
        memory_disk.write_bytes(gzip.compress(_initramfs(kernel, Path(folder)), 1))
        boot = next((kernel / "boot").glob("vmlinuz-*"))
        arguments = (
            "-accel tcg,thread=multi,tb-size=512 -cpu max -smp 2 -m 1536 -nographic -nodefaults "
            f"-serial stdio -kernel {boot} -initrd {memory_disk} -no-reboot "
            "-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
        )
        # The driver floods the console when it is late, unless the log level is low.
        options = "console=ttyS0 quiet loglevel=1 panic=-1 edd=off mitigations=off"
        line = f"{options} command={'|'.join(shlex.quote(part) for part in command)}"
        done = subprocess.run(
            ["qemu-system-x86_64", *arguments.split(), "-append", line],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    return (done.stdout + done.stderr).replace("\r", "")


def _package() -> str:
    asked = subprocess.run(
        ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False
    )
    package = re.search(r"Depends: (linux-image-\S+)", asked.stdout)
    assert package, "apt knows no kernel: run apt-get update"
    return package[1]


def _folder(package: str) -> Path:
    return Path(tempfile.gettempdir()) / f"emotion-vivid-{os.getuid()}-{package}"


def _kernel() -> Path:
    """Return a folder with the files of Debian's kernel package, which is downloaded if necessary."""
    package = _package()
    folder = _folder(package)
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        (archive,) = folder.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        archive.unlink()
        subprocess.run(["depmod", "-b", folder, package.removeprefix("linux-image-")], check=True)
        (folder / "complete").touch()
    return folder


def _initramfs(kernel: Path, folder: Path) -> bytes:
    """Pack busybox, the modules with those that they need, and the program that starts first."""
    root = folder / "root"
    for name in ("bin", "mods", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, root / "bin" / "busybox")
    modules = next((kernel / "lib" / "modules").iterdir())
    order = _with_needed(modules)
    for path in order:
        shutil.copy(modules / path, root / "mods")
    (root / "mods" / "order").write_text("\n".join(Path(path).name for path in order))
    init = root / "init"
    init.write_text(_INIT.replace("OPTIONS", VIVID))
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        cwd=root,
        input=names.encode(),
        capture_output=True,
        check=True,
    )
    return packed.stdout


def _with_needed(modules: Path) -> list[str]:
    """Return the paths of the modules to load, each after those that it needs."""
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {Path(path).name.removesuffix(".ko").replace("-", "_"): path for path in needs}
    order: list[str] = []
    for name in _MODULES:
        path = by_name[name.replace("-", "_")]
        order += [one for one in [*reversed(needs[path]), path] if one not in order]
    return order
