"""The browser of the tests of pages, which root can install.

``python tests/helpers/browser_programs.py`` installs it, or says what to type.
"""

import os
import shutil
import subprocess
import sys

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVERS = ("chromedriver",)
COMMANDS = ("apt-get update", "apt-get install -y chromium chromium-driver")
WRITE = f"Write, as root: {' && '.join(COMMANDS)}"

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


def path_of(names):
    """The path of the first installed program, or None."""
    return next(filter(None, map(shutil.which, names)), None)


def missing():
    """The names of the missing programs."""
    return [names[0] for names in (BROWSERS, DRIVERS) if path_of(names) is None]


def start(profile):
    """A Chromium without a window, with a folder for its profile."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = path_of(BROWSERS)
    for argument in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, Service(path_of(DRIVERS)))


def main():
    if not missing():
        return
    print(f"No {' and no '.join(missing())} on this machine.", flush=True)
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in COMMANDS:
            # What apt says is long, and of use only where it fails.
            done = subprocess.run(
                command.split(),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"{command} failed:\n{done.stdout}{done.stderr}\n{WRITE}")
    if missing():
        sys.exit(WRITE)


if __name__ == "__main__":
    main()
