"""A real browser, without a window."""

import json

import pytest

from browser_programs import BROWSERS, DRIVERS, WRITE, found, missing

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


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A Chromium with a profile of its own."""
    if missing():  # no reason to skip: it is what these tests are for
        pytest.fail(f"there is no {' and no '.join(missing())}. {WRITE}")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = found(BROWSERS)
    profile = tmp_path_factory.mktemp("profile")
    for argument in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(found(DRIVERS)))
    yield driver
    driver.quit()


@pytest.fixture
def requests(browser):
    """The addresses that were asked for since this was last called."""

    def asked():
        messages = [
            json.loads(entry["message"])["message"]
            for entry in browser.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    return asked
