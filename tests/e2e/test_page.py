"""The page in a real browser: the main job, two tabs with one cell, hostile output, keys alone, small screens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from e2b_code_interpreter import Sandbox
from playwright.sync_api import Browser, Route, expect

from local.project import SAMPLE
from tests.browser import DESK, PATIENCE_MS, PHONE, ROOT, Tab, a_tab, in_tab, launched
from tests.e2e.conftest import Chat
from tests.sandbox_server import Server
from tests.stack import RunningStack

pytestmark = pytest.mark.timeout(240)

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"

PLOT = """\
import matplotlib.pyplot as plt
import pandas as pd
table = pd.read_csv("employee_data.csv")
mean = table.groupby("Department")["Salary"].mean()
plt.bar(mean.index, mean.values)
plt.title("Mean salary")
plt.show()"""

HOSTILE = """\
from IPython.display import HTML
HTML('''<p id="found">nothing</p><script>
const found = [];
const attempt = (name, action) => {{ try {{ action(); found.push(name); }} catch (error) {{}} }};
attempt("the page", () => parent.document.body.innerHTML.length);
attempt("the key", () => sessionStorage.getItem("sandkeeper.key").length);
attempt("the page's key", () => parent.sessionStorage.length);
attempt("the address", () => {{ top.location = "about:blank"; }});
const tell = () => document.getElementById("found").textContent = "reached: " + found.join(", ");
Promise.allSettled([
  fetch("{api}/config.json").then(() => found.push("the API")),
  new Promise((resolve) => {{
    const image = new Image();
    image.onload = () => {{ found.push("an image"); resolve(); }};
    image.onerror = resolve;
    image.src = "{api}/icon.svg";
  }}),
]).then(tell);
</script>''')"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser. It ends with this module: other tests run event loops of their own in this thread."""
    with launched() as browser:
        yield browser


@pytest.fixture
def url(stack: RunningStack, chat: Chat) -> str:
    """Where the page has the test's chat open."""
    return f"{stack.api_url}/#/{chat.id}"


@pytest.fixture
def tab(chromium: Browser, url: str) -> Iterator[Tab]:
    """A tab in which the page is open."""
    with a_tab(chromium) as made:
        made.open(url)
        yield made


def notebook_url(chat: Chat) -> str:
    """Returns the address of the chat's notebook in the API."""
    (notebook,) = chat.client.get(f"{chat.url}/notebooks").raise_for_status().json()["notebooks"]
    return f"{chat.url}/notebooks/{notebook['notebookId']}"


def test_the_main_job_is_done_on_the_page(tab: Tab, chat: Chat, e2b: Server, tmp_path: Path) -> None:
    """A file is dropped, cells are run, the sandbox is lost, all is run again, and the notebook exported."""
    page = tab.page
    files = page.get_by_role("region", name="Files")
    tab.drop(("employee_data.csv", "text/csv", SAMPLE.read_bytes()))
    expect(files.get_by_text("15 rows × 7")).to_be_visible(timeout=PATIENCE_MS)
    files.get_by_text("employee_data.csv", exact=True).click()
    expect(files.get_by_role("rowheader", name="Salary")).to_be_visible()

    tab.run(1, PLOT)
    expect(tab.output(1).get_by_role("img", name="What the code has drawn")).to_be_visible()
    tab.output(1).get_by_role("button", name="Chart").click()
    expect(tab.output(1).locator("canvas")).to_be_visible()
    expect(page.get_by_role("region", name="Session").get_by_text("new sandbox")).to_be_visible()

    page.get_by_role("button", name="Code", exact=True).click()
    tab.run(2, 'table.describe().to_csv("summary.csv")\ntable[["Name", "Salary"]]')
    salaries = tab.output(2).get_by_role("columnheader", name="Salary")
    salaries.get_by_role("button").click()
    expect(salaries).to_have_attribute("aria-sort", "ascending")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download summary.csv").click()
    assert "mean" in Path(download.value.path()).read_text()

    Sandbox.kill(chat.status()["sandboxId"], **e2b.sdk)
    tab.cell(2).get_by_role("button", name="Run cell 2").click()
    lost = page.get_by_role("alert").filter(has_text="Variables were lost")
    expect(lost).to_be_visible(timeout=PATIENCE_MS)
    expect(tab.output(2)).to_contain_text("NameError")
    lost.get_by_role("button", name="Re-run all").click()
    expect(tab.output(2).get_by_role("columnheader", name="Salary")).to_be_visible(timeout=PATIENCE_MS)
    expect(lost).to_be_hidden()

    page.get_by_text("More", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export .ipynb").click()
    download.value.save_as(tmp_path / "notebook.ipynb")
    exported: Any = json.loads((tmp_path / "notebook.ipynb").read_text())
    nbformat.validate(exported)
    assert exported["cells"][0]["source"] == PLOT
    assert all(cell["outputs"] for cell in exported["cells"])
    assert tab.complaints == []


def test_output_is_seen_while_the_code_runs_and_a_run_can_be_stopped(tab: Tab) -> None:
    tab.write(
        1, "import time\nfor n in range(1000):\n    print('\\x1b[32mstep', n, flush=True)\n    time.sleep(0.2)"
    )
    tab.page.keyboard.press("Control+Enter")

    expect(tab.output(1).get_by_text("step 3")).to_be_visible(timeout=PATIENCE_MS)
    expect(tab.output(1).locator(".ansi-2").first).to_be_visible()
    expect(tab.page.get_by_role("region", name="Session").get_by_text("Running")).to_be_visible()
    tab.page.get_by_role("button", name="Stop", exact=True).click()
    tab.ended(1)

    tab.page.get_by_role("button", name="Code", exact=True).click()
    expect(tab.run(2, "n > 2")).to_contain_text("True")


def test_code_is_completed_by_what_lives_in_the_kernel(tab: Tab) -> None:
    tab.run(1, "import pandas as pd\ntable = pd.DataFrame({'Name': ['Ann'], 'Salary in USD': [1]})")
    tab.page.get_by_role("button", name="Code", exact=True).click()
    keys, editor = tab.page.keyboard, tab.cell(2).get_by_role("textbox")
    editor.click()

    def offered(name: str) -> None:
        expect(tab.page.get_by_role("option", name=name, exact=True)).to_be_visible()
        tab.page.wait_for_timeout(200)  # a list that has just appeared takes no keys: they were meant for the text

    keys.type("table.grou", delay=20)
    offered("groupby")
    keys.press("Enter")
    expect(editor).to_have_text("table.groupby")

    keys.press("Control+a")
    keys.type("'😀'; table['Sal", delay=20)
    offered("Salary in USD")
    keys.press("Tab")
    expect(editor).to_have_text("'😀'; table['Salary in USD']")

    keys.press("Control+a")
    keys.insert_text("tab")
    keys.press("Tab")
    offered("table")
    keys.press("Enter")
    keys.press("Enter")
    keys.press("Tab")
    expect(editor).to_have_text("table    ")


def test_an_error_shows_the_users_own_lines_and_folds_those_of_libraries(tab: Tab) -> None:
    output = tab.run(1, "import json\ndef read(text):\n    return json.loads(text)\nread('{')")

    expect(output).to_contain_text("JSONDecodeError")
    expect(output.get_by_text("----> 3     return json.loads(text)").first).to_be_visible()
    folded = output.get_by_text("Whole traceback, with 3 frames of libraries")
    expect(output.get_by_text("json/decoder.py").first).to_be_hidden()
    folded.click()
    expect(output.get_by_text("json/decoder.py").first).to_be_visible()


def test_html_that_code_puts_out_reaches_neither_the_page_nor_its_key_nor_the_api(
    tab: Tab, stack: RunningStack
) -> None:
    tab.run(1, HOSTILE.format(api=stack.api_url))

    shown = tab.page.frame_locator("iframe").locator("#found")
    expect(shown).to_have_text("reached: ", timeout=PATIENCE_MS)
    assert tab.page.url.startswith(stack.api_url)


def test_a_figure_of_plotly_is_drawn_in_a_frame_that_reaches_nothing(tab: Tab) -> None:
    tab.run(1, "import plotly.express as px\npx.scatter(x=[1, 2, 3], y=[3, 1, 2], title='Three points')")

    figure = tab.page.frame_locator("iframe[title=Figure]")
    expect(figure.get_by_text("Three points")).to_be_visible(timeout=PATIENCE_MS)
    expect(figure.locator(".scatterlayer .point")).to_have_count(3)


def test_an_upload_shows_how_far_it_is_and_a_file_that_cannot_be_used_says_why(
    tab: Tab, stack: RunningStack
) -> None:
    def once_it_is_seen(route: Route) -> None:
        expect(tab.page.get_by_role("progressbar", name="Upload of broken.parquet")).to_be_visible()
        route.continue_()

    tab.page.route(f"{stack.aws_url}/**", once_it_is_seen)
    with tab.page.expect_request(f"{stack.aws_url}/**"):
        tab.drop(("broken.parquet", "application/octet-stream", b"PAR1 and nothing else PAR1"))

    files = tab.page.get_by_role("region", name="Files")
    expect(files.get_by_text("cannot be used")).to_be_visible(timeout=PATIENCE_MS)
    files.get_by_text("broken.parquet", exact=True).click()
    expect(files.locator("p.bad")).not_to_be_empty()


def test_svg_that_code_puts_out_runs_nothing(tab: Tab) -> None:
    tab.run(
        1,
        'from IPython.display import SVG\nSVG(\'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
        "<script>top.reached = 1</script></svg>')",
    )

    expect(tab.output(1).get_by_role("img")).to_be_visible()
    assert tab.page.evaluate("window.reached") is None


def test_a_kernel_that_ends_is_told_with_what_is_lost(tab: Tab) -> None:
    tab.run(1, "import os\nos._exit(1)")

    lost = tab.page.get_by_role("alert").filter(has_text="Variables were lost")
    expect(lost).to_contain_text("the kernel had ended")
    lost.get_by_role("button", name="Go on without").click()
    expect(lost).to_be_hidden()


def test_two_who_edit_one_cell_are_shown_both_versions(tab: Tab, chat: Chat) -> None:
    tab.run(1, "value = 1\nvalue")
    expect(tab.page.get_by_text("Saved")).to_be_visible()
    notebook = notebook_url(chat)
    (cell,) = chat.client.get(notebook).json()["cells"]

    edits = iter([{"source": "value = 'theirs'"}])

    def somebody_is_faster(route: Route) -> None:
        if route.request.method == "PUT" and (theirs := next(edits, None)):
            faster = chat.client.put(
                f"{notebook}/cells/{cell['cellId']}", json=theirs, headers={"If-Match": cell["etag"]}
            )
            assert faster.status_code == 200, faster.text
        route.continue_()

    tab.page.route("**/cells/*", somebody_is_faster)
    tab.write(1, "value = 'mine'")

    conflict = tab.page.get_by_role("alert").filter(has_text="changed elsewhere")
    expect(conflict).to_contain_text("value = 'mine'")
    expect(conflict).to_contain_text("value = 'theirs'")
    conflict.get_by_role("button", name="Keep mine").click()
    expect(conflict).to_be_hidden()
    expect(tab.page.get_by_text("Saved")).to_be_visible()
    assert chat.client.get(notebook).json()["cells"][0]["source"] == "value = 'mine'"


def test_a_cell_that_somebody_has_changed_meanwhile_is_not_run(tab: Tab, chat: Chat) -> None:
    tab.write(1, "print('mine')")
    expect(tab.page.get_by_text("Saving …")).to_be_hidden()
    notebook = notebook_url(chat)
    (cell,) = chat.client.get(notebook).json()["cells"]
    assert cell["source"] == "print('mine')"

    def somebody_is_faster(route: Route) -> None:
        theirs = {"source": "print('theirs')"}
        chat.client.put(
            f"{notebook}/cells/{cell['cellId']}", json=theirs, headers={"If-Match": "*"}
        ).raise_for_status()
        route.continue_()

    tab.page.route("**/run", somebody_is_faster)
    tab.cell(1).get_by_role("button", name="Run cell 1").click()
    expect(tab.page.get_by_text("it was not run")).to_be_visible()
    expect(tab.cell(1).get_by_role("textbox")).to_contain_text("theirs")
    expect(tab.output(1)).to_be_hidden()


def test_what_cannot_be_saved_is_saved_once_the_api_is_there_again(tab: Tab, chat: Chat) -> None:
    tab.page.route("**/cells/*", lambda route: route.abort())
    tab.write(1, "kept = True")
    expect(tab.page.get_by_text("Not saved")).to_be_visible()

    tab.page.unroute("**/cells/*")
    expect(tab.page.get_by_text("Saved", exact=True)).to_be_visible(timeout=PATIENCE_MS)
    assert chat.client.get(notebook_url(chat)).json()["cells"][0]["source"] == "kept = True"


def test_a_cell_that_is_deleted_can_be_put_back(tab: Tab) -> None:
    tab.write(1, "precious = 1")
    tab.cell(1).get_by_role("button", name="Delete cell 1").click()
    expect(tab.cell(1)).to_be_hidden()

    tab.page.get_by_role("button", name="Undo").click()
    expect(tab.cell(1).get_by_role("textbox")).to_contain_text("precious = 1")


def test_what_one_tab_does_another_sees(tab: Tab, url: str) -> None:
    other = in_tab(tab.page.context.new_page())
    other.open(url)

    tab.run(1, "print('from the ' + 'first tab')")
    expect(other.output(1)).to_contain_text("from the first tab", timeout=PATIENCE_MS)
    tab.page.get_by_role("button", name="Text", exact=True).click()
    expect(other.cell(2)).to_be_visible()
    for each in (tab, other):
        expect(each.page.get_by_role("button", name="Untitled 2 cells")).to_be_visible()


def test_all_can_be_done_with_keys_alone(tab: Tab) -> None:
    keys = tab.page.keyboard
    tab.cell(1).focus()
    keys.press("Enter")
    keys.insert_text("6 * 7")
    keys.press("Shift+Enter")
    expect(tab.output(1)).to_contain_text("42", timeout=PATIENCE_MS)
    expect(tab.cell(2).get_by_role("textbox")).to_be_focused()

    keys.press("Escape")
    expect(tab.cell(2)).to_be_focused()
    keys.press("m")
    keys.press("Enter")
    keys.insert_text("# A heading")
    keys.press("Shift+Enter")
    expect(tab.page.get_by_role("heading", name="A heading")).to_be_visible()
    expect(tab.cell(3).get_by_role("textbox")).to_be_focused()
    keys.press("Escape")
    keys.press("d")
    keys.press("d")
    expect(tab.cell(3)).to_be_hidden()
    expect(tab.cell(2)).to_be_focused()
    keys.press("Alt+ArrowUp")
    expect(tab.cell(1).get_by_role("heading", name="A heading")).to_be_visible()


def test_a_notebook_file_that_is_dropped_is_opened(tab: Tab) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": "two\n"}
    about = {"metadata": {}, "source": "# Imported\n\nwith $a^2$"}
    code = {"metadata": {}, "source": "1 + 1", "execution_count": 1, "outputs": [output]}
    cells = [{"cell_type": "markdown", "id": "about", **about}, {"cell_type": "code", "id": "code", **code}]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    tab.drop(("report.ipynb", "application/json", json.dumps(notebook).encode()))

    expect(tab.page.get_by_role("heading", name="Imported")).to_be_visible()
    expect(tab.page.locator("math").first).to_be_visible()
    expect(tab.output(2)).to_contain_text("two")
    expect(tab.page.get_by_role("textbox", name="Title of the notebook")).to_have_value("report")


def test_a_session_that_is_paused_says_so(tab: Tab) -> None:
    tab.run(1, "1")

    def five_minutes_later(route: Route) -> None:
        reply = route.fetch()
        route.fulfill(response=reply, json={**reply.json(), "state": "paused"})

    tab.page.route("**/session", five_minutes_later)
    tab.run(1, "2")
    expect(tab.page.get_by_role("region", name="Session").get_by_text("Paused")).to_be_visible()


def test_a_notebook_is_renamed_and_deleted(tab: Tab, chat: Chat) -> None:
    title = tab.page.get_by_role("textbox", name="Title of the notebook")
    title.fill("Salaries")
    title.press("Enter")
    expect(tab.page.get_by_role("button", name="Salaries 1 cell")).to_be_visible()
    assert chat.client.get(notebook_url(chat)).json()["title"] == "Salaries"

    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.page.get_by_text("More", exact=True).click()
    tab.page.get_by_role("button", name="Delete notebook").click()
    expect(title).to_have_value("Untitled")
    expect(tab.cell(1)).to_be_visible()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(DESK, "light"), (DESK, "dark"), (PHONE, "light")],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing_to_complain_of(
    chromium: Browser, url: str, chat: Chat, size: dict[str, int], scheme: str
) -> None:
    with a_tab(chromium, size, scheme) as tab:
        tab.open(url)
        tab.drop(("employee_data.csv", "text/csv", SAMPLE.read_bytes()))
        tab.run(1, "import pandas as pd\nprint('\\x1b[31mred \\x1b[92mgreen')\npd.DataFrame({'a': [1, 2]})")
        tab.page.get_by_role("button", name="Code", exact=True).click()
        tab.run(2, "1 / 0")
        tab.page.get_by_role("button", name="Text", exact=True).click()
        tab.write(3, "# Title\n\nwith `code`, and a [link](https://example.org)")
        tab.page.keyboard.press("Control+Enter")
        expect(tab.page.get_by_role("heading", name="Title", exact=True)).to_be_visible()
        tab.page.evaluate(AXE.read_text())
        assert complaints_of_axe(tab) == {}
        tab.page.get_by_role("button", name="Keys").last.click()
        assert complaints_of_axe(tab) == {}
        tab.page.get_by_role("button", name="Close", exact=True).last.click()
        if size == PHONE:
            tab.page.get_by_role("button", name="Files and session").click()
        tab.page.get_by_role("region", name="Files").get_by_text("15 rows").click()
        assert complaints_of_axe(tab) == {}


def complaints_of_axe(tab: Tab) -> dict[str, list[str]]:
    """Returns which rules are broken, and by what."""
    found = tab.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return {rule["id"]: [node["html"][:160] for node in rule["nodes"]] for rule in found["violations"]}


def test_a_phone_has_the_cells_in_its_width_and_the_rail_behind_a_button(chromium: Browser, url: str) -> None:
    with a_tab(chromium, PHONE) as tab:
        tab.open(url)
        tab.run(1, "print('x' * 500)\nimport pandas as pd\npd.DataFrame({f'column {n}': [n] for n in range(30)})")
        tab.page.get_by_role("button", name="Code", exact=True).click()
        tab.run(2, "raise ValueError('one two three ' * 50)  # " + "a long line " * 20)

        assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        rail = tab.page.get_by_role("complementary", name="Session and files")
        expect(rail).to_be_hidden()
        tab.page.get_by_role("button", name="Files and session: Ready").click()
        expect(rail).to_be_visible()
        expect(rail.get_by_text("Ready")).to_be_visible()


def test_a_key_that_the_api_does_not_know_is_asked_for_again(chromium: Browser, url: str) -> None:
    with a_tab(chromium) as tab:
        tab.page.route("**/config.json", lambda route: route.fulfill(status=404, body=""))
        tab.page.goto(url)
        tab.page.get_by_label("API key or token").fill("sk_wrong")
        tab.page.get_by_role("button", name="Open the notebook").click()

        expect(tab.page.get_by_role("alert")).to_contain_text("does not know this key")
        assert "sk_wrong" not in tab.page.url
        assert tab.page.evaluate("sessionStorage.length") == 0
