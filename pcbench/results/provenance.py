"""Where a result comes from: versions, commit, device. Nothing that names a machine or its user."""

import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

import torch

PACKAGES = (
    "pcbench",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "imagecorruptions-imaug",
    "torchattacks",
    "foolbox",
)


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git() -> dict[str, object]:
    """Commit of pcbench's own checkout, and whether it has uncommitted changes; empty for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {}

    def ask(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=True)  # noqa: S603, S607 (fixed words)
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def device_name(device: torch.device) -> str:
    """What computed: the kind of device, and for an accelerator its name."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def now() -> str:
    """The time in UTC, to the second. For the record only: nothing is decided by a clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
