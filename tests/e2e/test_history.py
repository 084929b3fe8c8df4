"""A chat's history, notebook and context over HTTP, of code that real kernels have run."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from nbclient import NotebookClient

from local.project import ROOT, SAMPLE
from tests.e2e.conftest import Chat, Run, texts
from tests.e2e.runs import begin, result_of

KERNEL_PYTHON = ROOT / ".envs" / "kernel" / "bin" / "python"
"""What sandboxes run code with."""

CELLS = [
    "import pandas as pd\nimport matplotlib.pyplot as plt\nfrom IPython.display import HTML, Markdown",
    "table = pd.read_csv('employee_data.csv')\nprint(len(table), 'rows')\ntable.head(2)",
    "plt.bar(table['Department'].value_counts().index, table['Department'].value_counts())\nplt.show()",
    "%time 1\n!echo from a shell\ndisplay(Markdown('**bold**'), HTML('<i>it</i>'))",
    "undefined",
    "round(table['Salary'].mean(), 2)",
]


def notebook_of(chat: Chat) -> Any:
    """Returns the chat's notebook, which must be a valid one."""
    reply = chat.client.get(f"{chat.url}/notebook").raise_for_status()
    assert reply.headers["content-type"] == "application/x-ipynb+json"
    nbformat.validate(reply.json())
    made: Any = nbformat.from_dict(reply.json())  # type: ignore[no-untyped-call]
    return made


def code_cells(notebook: Any) -> list[Any]:
    """Returns the notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[str]:
    """Returns what the cell shows, richest forms last."""
    return [f"{output.output_type} {' '.join(sorted(output.get('data', [])))}".strip() for output in cell.outputs]


def types(cell: Any) -> list[str]:
    """Returns the types of what the cell shows: text that comes in several pieces is one."""
    return [kind for kind, _ in groupby(output.output_type for output in cell.outputs)]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the name of a kernel in the environment that sandboxes have."""
    folder = tmp_path / "kernels" / "sandbox"
    folder.mkdir(parents=True)
    arguments = [str(KERNEL_PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": arguments, "display_name": "", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    return "sandbox"


def test_runs_are_listed_latest_first_as_they_were_answered(chat: Chat, run: Run) -> None:
    run("print('größe')")
    failed = run("1 / 0")
    accepted = begin(chat, "import time; time.sleep(0.2); 7")
    result_of(chat.client, accepted)

    page = chat.client.get(f"{chat.url}/executions", params={"limit": 2}).raise_for_status().json()
    rest = chat.client.get(f"{chat.url}/executions", params={"next": page["next"]}).raise_for_status().json()

    last, second = page["executions"]
    (first,) = rest["executions"]
    assert rest["next"] is None
    assert last["executionId"] == accepted["executionId"]
    assert (second["executionId"], second["error"], second["errorKind"]) == (
        failed["executionId"],
        failed["error"],
        "user_code",
    )
    assert (first["code"], first["success"], first["results"]) == ("print('größe')", True, {"text": 1})
    assert last["executionTime"] >= 200


def test_a_notebook_has_all_outputs_and_runs_again_from_top_to_bottom(
    chat: Chat, run: Run, kernels: str, tmp_path: Path
) -> None:
    chat.upload("employee_data.csv", SAMPLE.read_bytes())
    for code in CELLS:
        run(code)
    run("while True: pass", timeoutMs=1_000)

    notebook = notebook_of(chat)

    cells = code_cells(notebook)
    assert [cell.source for cell in cells] == [*CELLS, "while True: pass"]
    assert "- `employee_data.csv`, " in notebook.cells[0].source
    assert kinds(cells[1])[0] == "stream"
    assert "text/html" in kinds(cells[1])[1]
    assert "image/png" in kinds(cells[2])[0]
    assert types(cells[3]) == ["stream", "display_data"]
    assert kinds(cells[4]) == ["error"]
    (tmp_path / "employee_data.csv").write_bytes(SAMPLE.read_bytes())
    again: Any = nbformat.from_dict(json.loads(json.dumps(notebook)))  # type: ignore[no-untyped-call]

    NotebookClient(
        again, timeout=60, kernel_name=kernels, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    for before, after in zip(cells[:6], code_cells(again)[:6], strict=True):
        assert types(after) == types(before)
    assert code_cells(again)[5].outputs[0].data["text/plain"] == cells[5].outputs[0].data["text/plain"]
    assert "83666.67" in cells[5].outputs[0].data["text/plain"]
    assert code_cells(again)[6].execution_count == cells[6].execution_count, "an endless loop was run again"


def test_a_fresh_kernel_is_told_between_the_cells(chat: Chat, run: Run) -> None:
    run("kept = 1")
    chat.client.post(f"{chat.url}/session/restart").raise_for_status()
    run("'kept' in globals()")

    _, first, fresh, second = notebook_of(chat).cells

    assert (first.source, second.outputs[0].data["text/plain"]) == ("kept = 1", "False")
    assert "the kernel had been restarted" in fresh.source


def test_a_context_tells_of_files_packages_and_variables_as_they_are(chat: Chat, run: Run) -> None:
    chat.upload("employee_data.csv", SAMPLE.read_bytes())
    context = f"{chat.url}/context"
    before = chat.client.get(context).raise_for_status().json()
    assert before["session"]["state"] == "none"
    assert chat.status()["exists"] is False

    installed = texts(run("import pandas, sys; print(pandas.__version__)"))[0].strip()
    after = chat.client.get(context).raise_for_status().json()

    assert (after["session"]["state"], after["session"]["hasVariables"]) == ("idle", True)
    assert after["packages"]["source"] == "sandbox"
    assert {"name": "pandas", "version": installed} in after["packages"]["packages"]
    (file,) = after["files"]
    assert (file["kind"], file["tables"][0]["rowCount"], file["tables"][0]["columnCount"]) == ("csv", 15, 7)
    said = chat.client.get(context, params={"format": "text"}).raise_for_status()
    assert said.text == after["text"]
    assert f"pandas {installed}" in said.text
    assert "15 rows × 7 columns" in said.text
    assert len(said.text) <= 4_000


def test_what_one_chats_sandbox_tells_serves_another_chat_that_has_none(
    client: httpx.Client, chat: Chat, run: Run
) -> None:
    run("1")
    chat.client.get(f"{chat.url}/context").raise_for_status()

    told = client.get("/api/chats/never-run/context").raise_for_status().json()

    assert told["packages"]["source"] == "template"
    assert "pandas" in {package["name"] for package in told["packages"]["packages"]}


def test_the_tool_is_called_as_it_is_described(chat: Chat) -> None:
    (tool,) = chat.client.get(f"{chat.url}/context").raise_for_status().json()["tools"]["anthropic"]
    filled_in = {"code": "6 * 7", "timeoutMs": tool["input_schema"]["properties"]["timeoutMs"]["minimum"]}

    reply = chat.client.post("/api/jupyter/execute", json={"chatId": chat.id, **filled_in}).raise_for_status()

    assert texts(reply.json()) == ["42"]
