"""A real browser, and the page as somebody in front of it uses it."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
DIST = ROOT / "web" / "dist" / "index.html"
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000
"""For whatever takes a sandbox: two cores may be busy with other tests."""

expect.set_options(timeout=15_000)

DESK = {"width": 1360, "height": 900}
PHONE = {"width": 390, "height": 844}


@dataclass
class Tab:
    """A tab with the page in it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts, and what a content policy has refused."""

    def open(self, url: str) -> None:
        """Loads the page, and waits for its cells."""
        self.page.goto(url)
        expect(self.cell(1)).to_be_visible()

    def cell(self, number: int) -> Locator:
        """Returns the cell of this number."""
        return self.page.get_by_role("group", name=re.compile(rf"cell {number}$"))

    def write(self, number: int, code: str) -> None:
        """Writes this into the cell, in place of what it says."""
        self.cell(number).get_by_role("textbox").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def run(self, number: int, code: str) -> Locator:
        """Writes code, runs it, waits for its end, and returns the cell's output."""
        self.write(number, code)
        self.page.keyboard.press("Control+Enter")
        self.ended(number)
        return self.output(number)

    def ended(self, number: int) -> None:
        """Waits until the cell has been run and can be run again."""
        expect(self.cell(number).get_by_role("button", name=f"Run cell {number}")).to_be_visible(
            timeout=PATIENCE_MS
        )

    def output(self, number: int) -> Locator:
        """Returns what the cell shows."""
        return self.page.get_by_role("region", name=f"Output of cell {number}", exact=True)

    def drop(self, *files: tuple[str, str, bytes]) -> None:
        """Drops files onto the page: name, type, content."""
        self.page.evaluate(
            """(files) => {
                const dataTransfer = new DataTransfer();
                for (const [name, type, text] of files) dataTransfer.items.add(new File([text], name, { type }));
                document.querySelector(".shell").dispatchEvent(
                    new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
            }""",
            [[name, kind, content.decode()] for name, kind, content in files],
        )


@contextmanager
def launched() -> Iterator[Browser]:
    """Debian's Chromium, or the test is skipped."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: the page is not tried in a browser")
    if not DIST.is_file():
        pytest.fail("the page is not built: run `make web`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def a_tab(browser: Browser, size: dict[str, int] = DESK, scheme: str = "light") -> Iterator[Tab]:
    """A tab of a browser that knows nothing yet."""
    context = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
        accept_downloads=True,
    )
    try:
        yield in_tab(context.new_page())
    finally:
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")  # a test may end while the page still asks for something
        context.close()


def in_tab(page: Page) -> Tab:
    """Returns the tab, which listens to what the page complains of."""
    tab = Tab(page)

    def hear(message: ConsoleMessage) -> None:
        # That there is no session is said by a 404.
        is_an_answer = message.text.startswith("Failed to load resource")
        if message.type in {"error", "warning"} and not is_an_answer:
            tab.complaints.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    return tab
