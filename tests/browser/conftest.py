"""A real browser, without a window."""

import json

import pytest

from browser_programs import WRITE, missing, start


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A Chromium with a separate profile."""
    if missing():  # no reason to skip: it is what these tests are for
        pytest.fail(f"there is no {' and no '.join(missing())}. {WRITE}")
    driver = start(tmp_path_factory.mktemp("profile"))
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
