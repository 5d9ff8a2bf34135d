"""A real headless browser: what a page shows, asks for and complains of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_DRIVER = "chromedriver"


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was opened."""

    values: dict[tuple[str, str], float]
    """The exact numbers of the results table by cell and column."""
    shown: dict[tuple[str, str], str]
    """The same as a person sees them."""
    console: list[str]
    requests: list[str]
    widths: tuple[int, int]
    """Of the page's content and of its window, in px."""
    ink: str
    paper: str


@contextmanager
def browser() -> Iterator[object]:
    """A driver of headless Chromium; the test is skipped where it is not installed."""
    if shutil.which(_DRIVER) is None:
        pytest.skip(f"browser: {_DRIVER} not installed (make services)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.add_argument("--window-size=1300,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which(_DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver, path: Path, *, scheme: str = "light") -> Page:
    """Open the file `path` as a person whose system prefers the colour `scheme`."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get_log("performance")
    driver.get(path.resolve().as_uri())
    cells = driver.execute_script(
        "return [...document.querySelectorAll('[data-value]')].map("
        "e => [e.dataset.cell, e.dataset.column, e.dataset.value, e.innerText])"
    )
    widths = driver.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    ink, paper = driver.execute_script(
        "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    )
    return Page(
        values={(cell, column): float(value) for cell, column, value, _ in cells},
        shown={(cell, column): text for cell, column, _, text in cells},
        console=[entry["message"] for entry in driver.get_log("browser")],
        requests=_requests(driver),
        widths=tuple(widths),
        ink=ink,
        paper=paper,
    )


def _requests(driver) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
