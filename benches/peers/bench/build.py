"""What is built here, and what the numbers depend on."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from . import process
from .process import Failure

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()


def _build(folder, *options):
    command = ["cargo", "build", "--locked", "--manifest-path", folder / "Cargo.toml", "--target-dir", TARGET, *options]
    print(f"building {'sessiongate' if folder == ROOT else folder.relative_to(ROOT)}", file=sys.stderr)
    if subprocess.run([str(word) for word in command]).returncode:
        raise Failure(f"{folder} could not be built")


def build_load():
    """The path of the load side."""
    _build(HERE / "load", "--release")
    return TARGET / "release" / "sessiongate-load"


def build_pingora():
    _build(HERE / "pingora", "--release")


def pingora():
    """The path of the Pingora peer, built or not."""
    return TARGET / "release" / "sessiongate-peer-pingora"


def build_gateway():
    """The path of the gateway, as it is published."""
    print("building sessiongate, trained", file=sys.stderr)
    environment = os.environ | {"CARGO_TARGET_DIR": str(TARGET)}
    done = subprocess.run([ROOT / "deploy" / "build"], stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise Failure("sessiongate could not be built")
    return Path(done.stdout.splitlines()[-1])


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = model[1].strip() if model else platform.machine()
    return f"{name}, {len(process.CORES)} cores, {platform.system()} {platform.release()}"
