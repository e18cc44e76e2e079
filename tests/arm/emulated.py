"""The tests of packed models on ARM processors, which QEMU emulates.

    python tests/arm/emulated.py FOLDER [--processor NAME] [arguments of pytest]

It makes an environment in the folder, once, and runs the tests that need no Keras on
processors with the instructions of PROCESSORS, which takes about half an hour. It needs
Linux, pip, and the Debian packages debootstrap (as root) and qemu-user-static. CI does not
run it.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
TESTS = CHECKOUT / "tests" / "plugins" / "packed"
# A release of Debian, and its Python.
RELEASE, PYTHON = "bookworm", "3.11"
PACKAGES = (
    "attrs",
    "hypothesis",
    "numba",
    "numpy",
    "pluggy",
    "pytest",
    "rich",
    "safetensors",
)
PLATFORMS = [f"--platform=manylinux_2_{glibc}_aarch64" for glibc in (17, 27, 28)]
# QEMU has all of them: numba is told which ones it may use.
PROCESSORS = {
    "none": "+neon",
    "dotprod": "+neon,+dotprod",
    "i8mm": "+neon,+dotprod,+i8mm",
}


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def root_of(folder):
    """A Debian for ARM, of which nothing has run."""
    root = folder / "root"
    if not (root / "usr" / "bin" / f"python{PYTHON}").exists():
        options = ("--arch=arm64", "--variant=minbase", "--foreign", "--include=python3")
        run("debootstrap", *options, RELEASE, root)
        for archive in sorted((root / "var/cache/apt/archives").glob("*.deb")):
            run("dpkg-deb", "-x", archive, root)
    return root


def packages_of(folder):
    """Folders with what tests import: packages for ARM, and the wheel of this checkout."""
    site, wheel, own = (folder / name for name in ("site", "wheel", "qframe"))
    pip = sys.executable, "-m", "pip"
    if not site.exists():
        options = ("--only-binary=:all:", f"--python-version={PYTHON}", *PLATFORMS)
        run(*pip, "install", "--quiet", *options, "--target", site, *PACKAGES)
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", wheel, CHECKOUT)
    options = ("--no-deps", "--no-index", "--upgrade", "--find-links", wheel)
    run(*pip, "install", "--quiet", *options, "--target", own, "keras-qframe")
    return own, site


def python_of(folder, root):
    """A program that runs Python; it is the executable of that Python, too."""
    path = folder / "python"
    python = root / "usr" / "bin" / f"python{PYTHON}"
    options = f"-cpu max -L '{root}' -0 '{path}' '{python}'"
    path.write_text(f'#!/bin/sh\nexec qemu-aarch64-static {options} "$@"\n')
    path.chmod(0o755)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the environment")
    parser.add_argument("--processor", choices=PROCESSORS, help="else all of them")
    chosen, arguments = parser.parse_known_args()
    folder = chosen.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = python_of(folder, root_of(folder))
    path = os.pathsep.join(map(str, packages_of(folder)))
    with_keras = [p for p in TESTS.glob("test_*.py") if "\nimport keras" in p.read_text()]
    options = ["-m", "not long", "-p", "no:cacheprovider"]
    options += [f"--ignore={module}" for module in with_keras]
    failed = []
    for processor in [chosen.processor] if chosen.processor else PROCESSORS:
        print(f"{processor}: {PROCESSORS[processor]}", flush=True)
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "KERAS_BACKEND": "",
            "NUMBA_CPU_NAME": "generic",
            "NUMBA_CPU_FEATURES": PROCESSORS[processor],
            "NUMBA_CACHE_DIR": str(folder / "cache" / processor),
        }
        command = [python, "-m", "pytest", *options, *(arguments or [TESTS])]
        done = subprocess.run([*map(str, command)], cwd=CHECKOUT, env=environment)
        failed += [processor] if done.returncode else []
    sys.exit(f"failed on: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
