"""A real browser that has no network: Debian's chromium, driven through its own driver."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-dev-shm-usage",
)
PATIENCE = 600
"""Seconds until something that shall be seen is missing."""


class Browser:
    """One window with one page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(
        self, page: Path, *, width: int = 1400, scheme: str = "light", query: str = ""
    ) -> None:
        """Load a page anew, without what an earlier one kept."""
        self.media(("prefers-color-scheme", scheme))
        self.wide(width)
        self.driver.get("about:blank")
        self._log("browser")
        self._log("performance")
        self.driver.get(f"{page.as_uri()}{query}")
        if self.run("return localStorage.length"):
            self.run("localStorage.clear()")
            self.driver.refresh()

    def wide(self, width: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )

    def media(self, *features: tuple[str, str]) -> None:
        """What the reader's system prefers."""
        values = [{"name": name, "value": value} for name, value in features]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": values})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def element(self, selector: str) -> WebElement:
        (match,) = self.all(selector)
        return match

    def texts(self, selector: str) -> list[str]:
        """What elements say, also such as are not in the window."""
        script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"
        return list(self.run(script, selector))

    def type(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not (value := holds()):
            assert time.monotonic() < deadline, f"it is not so: {what}"
            time.sleep(0.05)
        return value

    def _log(self, kind: str) -> list[dict[str, Any]]:
        """What was written to a log since it was last read."""
        return list(self.driver.execute("getLog", {"type": kind})["value"])

    def complaints(self) -> list[str]:
        """What the console has said since the page was opened."""
        return [str(entry["message"]) for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened."""
        messages = [entry["message"] for entry in self._log("performance")]
        return [
            message.partition('"url":"')[2].partition('"')[0]
            for message in messages
            if '"Network.requestWillBeSent"' in message
        ]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile that ends with the block."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    try:
        driver.set_page_load_timeout(PATIENCE)
        yield Browser(driver)
    finally:
        driver.quit()


__all__ = ["Browser", "Keys", "browser"]
