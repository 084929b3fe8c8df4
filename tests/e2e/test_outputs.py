"""Everything that code shows comes back, from real kernels: plots, tables, text, errors; and what is too large."""

import base64
import json
from typing import Any

import httpx
import nbformat
import pytest

from sandkeeper.outputs import CHART
from tests.e2e.conftest import Chat
from tests.e2e.runs import begin, follow, result_of

PLOTLY = "application/vnd.plotly.v1+json"
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
REPLY_BYTES = 4_000_000


def shown(chat: Chat, code: str, **fields: Any) -> dict[str, Any]:
    """Returns the reply to a run with all its views, of which the outputs are a notebook's."""
    reply = chat.execute(code, include=["outputs", "model"], **fields)
    assert reply.status_code == 200, reply.text
    assert len(reply.content) <= REPLY_BYTES
    answer: dict[str, Any] = reply.json()
    assert_valid(answer["outputs"])
    assert len(answer["model"]) <= 8_000
    return answer


def assert_valid(cells: list[dict[str, Any]]) -> None:
    """Fails unless these are the outputs of a notebook's cell."""
    cell: dict[str, Any] = {"cell_type": "code", "id": "a", "metadata": {}, "source": "", "execution_count": None}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell | {"outputs": cells}]}
    nbformat.validate(notebook)


def kinds(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns type and MIME type of each result."""
    return [(result["type"], result["mimeType"]) for result in answer["results"]]


# ── Plots and tables ────────────────────────────────────────────────────────────────────────────────


def test_several_plots_of_one_run_are_images_and_charts_in_their_order(chat: Chat) -> None:
    answer = shown(
        chat,
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2, 3], label='pay'); plt.title('First'); plt.xlabel('year'); plt.show()\n"
        "print('between')\n"
        "plt.bar(['a', 'b'], [1, 2]); plt.title('Second'); plt.show()",
    )

    assert kinds(answer) == [
        ("image", "image/png"),
        ("chart", CHART),
        ("text", "text/plain"),
        ("image", "image/png"),
        ("chart", CHART),
    ]
    images = [base64.b64decode(result["content"]) for result in answer["results"] if result["type"] == "image"]
    assert all(image.startswith(PNG) for image in images)
    assert [cell["output_type"] for cell in answer["outputs"]] == ["display_data", "stream", "display_data"]
    told = answer["model"].split("\n")
    assert told[0].startswith("[image/png, ")
    assert told[1] == "[chart: line; title 'First'; x 'year'; pay: 3 points (0, 1), (1, 2), (2, 3)]"
    assert told[-1] == "[chart: bar; title 'Second'; a: value 1; b: value 2]"


def test_a_plot_of_seaborn_is_one_too(chat: Chat) -> None:
    answer = shown(
        chat,
        "import pandas as pd, seaborn as sns\n"
        "axes = sns.scatterplot(data=pd.DataFrame({'a': [1, 2], 'b': [3, 4]}), x='a', y='b')",
    )

    assert kinds(answer) == [("image", "image/png"), ("chart", CHART)]
    assert "x 'a'; y 'b'" in answer["model"]


def test_a_figure_of_plotly_is_a_chart_that_a_client_can_draw(chat: Chat) -> None:
    answer = shown(chat, "import plotly.express as px\npx.bar(x=['a', 'b'], y=[1, 2], title='P')")

    assert answer["error"] is None
    assert kinds(answer)[-1] == ("chart", PLOTLY)
    assert answer["results"][-1]["content"]["data"][0]["type"] == "bar"
    assert "title 'P'; x 'x'; y 'y'; bar : x [a, b], y [1, 2]" in answer["model"]


def test_a_dataframe_is_html_and_data_and_for_a_model_its_first_rows(chat: Chat) -> None:
    answer = shown(
        chat,
        "import pandas as pd\n"
        "pd.DataFrame({f'column {n}': [f'{row} {n} ' + 'long ' * 9 for row in range(1000)] for n in range(9)})",
    )

    assert [kind for kind, _ in kinds(answer)] == ["html", "table"]
    assert len(answer["results"][1]["content"]["column 0"]) == 1_000
    assert answer["outputs"][0]["output_type"] == "execute_result"
    told = answer["model"].split("\n")
    assert told[0] == "[table of 1,000 rows × 9 columns: shown to the user]"
    assert told[1].startswith("column 0 | column 1")
    assert told[-1] == "… 995 more rows"


def test_a_small_table_keeps_its_index(chat: Chat) -> None:
    answer = shown(chat, "import pandas as pd\npd.DataFrame({'a': [1, 2, 3]}).describe()")

    assert {"count", "mean", "std"} <= {line.split(" ")[0] for line in answer["model"].split("\n")}


# ── All else that can be shown ──────────────────────────────────────────────────────────────────────


def test_every_kind_of_display_comes_back(chat: Chat) -> None:
    answer = shown(
        chat,
        """
import io
from IPython.display import HTML, JSON, SVG, Image, Latex, Markdown
from PIL import Image as Picture
jpeg = io.BytesIO()
Picture.new("RGB", (3, 3)).save(jpeg, "JPEG")
display(Markdown("# Title"), Latex("$x^2$"), JSON({"a": [1, None]}), HTML("<b>bold</b>"))
display(SVG('<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>'), Image(jpeg.getvalue(), format="jpeg"))
display({"application/vnd.of.nobody+json": {"x": 1}, "text/plain": "nobody's"}, raw=True)
"the last value"
""",
    )

    assert kinds(answer) == [
        ("markdown", "text/markdown"),
        ("latex", "text/latex"),
        ("json", "application/json"),
        ("html", "text/html"),
        ("image", "image/svg+xml"),
        ("image", "image/jpeg"),
        ("text", "text/plain"),
        ("text", "text/plain"),
    ]
    contents = [result["content"] for result in answer["results"]]
    assert contents[:4] == ["# Title", "$x^2$", {"a": [1, None]}, "<b>bold</b>"]
    assert base64.b64decode(contents[5]).startswith(JPEG)
    assert contents[6:] == ["nobody's", "the last value"]
    assert answer["outputs"][-1]["output_type"] == "execute_result"
    assert answer["outputs"][-2]["data"]["application/vnd.of.nobody+json"] == {"x": 1}
    assert answer["model"].split("\n")[:4] == ["# Title", "$x^2$", '{"a": [1, null]}', "bold"]


def test_a_progress_bar_is_its_last_state_to_a_model_and_whole_in_a_notebook(chat: Chat) -> None:
    answer = shown(chat, "for n in range(0, 101, 10): print(f'\\r{n:3}% ' + '#' * (n // 10), end='', flush=True)")

    assert answer["model"] == "stdout:\n100% ##########"
    assert answer["outputs"][0]["text"].startswith("\r  0% ")


def test_an_error_tells_a_model_the_users_own_frames(chat: Chat) -> None:
    answer = shown(chat, "import pandas as pd\ndef load(): return pd.read_csv('none.csv')\nprint('before')\nload()")

    assert answer["errorDetail"]["kind"] == "user_code"
    assert "readers.py" in answer["errorDetail"]["traceback"]
    assert [cell["output_type"] for cell in answer["outputs"]] == ["stream", "error"]
    assert answer["outputs"][1]["ename"] == "FileNotFoundError"
    told = answer["model"]
    assert "----> 4 load()" in told
    assert "frames of libraries" in told
    assert "readers.py" not in told
    assert answer["error"] in told


def test_a_lost_kernel_is_what_a_model_hears_first(chat: Chat) -> None:
    shown(chat, "x = 1")
    died = shown(chat, "import os; os._exit(1)")
    answer = shown(chat, "print('again')")

    assert "Error (kernel_died)" in died["model"]
    assert died["outputs"][-1]["ename"] == "KernelDied"
    assert answer["model"].startswith("Warning: variables of earlier calls are gone (kernel_died)")


# ── Too much ────────────────────────────────────────────────────────────────────────────────────────

PAGE = "<p>žluťoučký</p>"
LARGE = f"from IPython.display import HTML\nHTML({PAGE!r} * 400_000)"


def test_html_of_megabytes_is_linked_to_and_is_there_to_the_last_byte(chat: Chat) -> None:
    answer = shown(chat, LARGE)

    (linked,) = answer["results"]
    assert (linked["type"], linked["mimeType"]) == ("html", "text/html")
    downloaded = httpx.get(linked["url"])
    assert downloaded.content == (PAGE * 400_000).encode()
    assert linked["size"] == len(downloaded.content) > 6_000_000
    assert downloaded.headers["content-disposition"] == "attachment"
    assert downloaded.headers["content-type"] == "application/octet-stream"
    assert answer["outputs"][0]["metadata"]["sandkeeper"]["size"] == linked["size"]
    assert "shown to the user" in answer["model"]


def test_a_run_that_was_left_tells_it_in_its_result_and_in_its_events(client: httpx.Client, chat: Chat) -> None:
    accepted = begin(chat, f"import time\ntime.sleep(0.5)\n{LARGE}")

    events = follow(client, accepted)
    result = result_of(client, accepted)

    (told,) = (event.told["results"] for event in events if event.event == "output")
    assert [len(httpx.get(each["url"]).content) for each in told] == [result["results"][0]["size"]]
    reply = client.get(accepted["statusUrl"], params={"include": ["outputs", "model"]})
    assert len(reply.content) <= REPLY_BYTES
    assert_valid(reply.json()["result"]["outputs"])
    assert reply.json()["result"]["model"].startswith("[text/html, ")


def test_a_table_of_megabytes_is_linked_to_as_data(chat: Chat) -> None:
    answer = shown(chat, "import pandas as pd\npd.DataFrame({'a': ['x' * 100] * 100_000})")

    table = next(result for result in answer["results"] if result["type"] == "table")
    assert json.loads(httpx.get(table["url"]).content) == {"a": ["x" * 100] * 100_000}


@pytest.mark.parametrize(
    "flood",
    ["while True: print('x' * 1000)", "while True: print('\\x00' * 1000)"],
    ids=["lines", "what takes six times its size"],
)
def test_a_program_that_prints_without_end_is_stopped_and_keeps_its_variables(chat: Chat, flood: str) -> None:
    shown(chat, "kept = 41")

    answer = shown(chat, flood)

    assert answer["errorDetail"]["kind"] == "output_limit"
    assert "Error (output_limit)" in answer["model"]
    assert shown(chat, "kept + 1")["model"] == "42"


def test_displays_without_end_are_stopped_too_and_keep_their_variables(chat: Chat) -> None:
    """As fast as they come, whoever sends them on gets a turn: else their kernel would be given up for hanging."""
    answer = shown(chat, "from IPython.display import HTML\nkept = 41\nwhile True: display(HTML('x' * 100_000))")

    assert answer["errorDetail"]["kind"] == "output_limit"
    assert any("url" in result for result in answer["results"])
    assert shown(chat, "kept + 1")["model"] == "42"
