"""The main job, done with the Python client as a chat backend does it, with every answer checked and shown.

A step returns what is worth seeing, and raises Unexpected if the answer is not what it has to be.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console, RenderableType

import sandkeeper_client as client
from local import show
from local.processes import StackError
from local.project import ROOT, SAMPLE, WORKBOOK, shown
from local.settings import Settings
from local.stack import Stack
from local.story import ANALYSE, ASK_AGAIN, DRAW, JOIN, LOOK_AROUND, NEVER_ENDS, RAISE, TRAIN

OUTPUT = ROOT / "demo-output"
PLOT, REPORT, NOTEBOOK = "salaries.png", "report.xlsx", "chat.ipynb"
READY_WITHIN_S = 20
RETRIES = client.Retries(attempts=3)
PNG = b"\x89PNG\r\n\x1a\n"
ZIP = b"PK\x03\x04"
SPREADSHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SHEETS = {
    "Departments": {
        "Department": "text",
        "Head": "text",
        "Floor": "integer",
        "Budget": "integer",
        "Founded": "date",
    },
    "Targets": {"Department": "text", "Quarter": "text", "Target": "number"},
}
COLUMNS = ["EmployeeID", "Name", "Department", "Position", "Salary", "HireDate", "YearsExperience"]
HEADCOUNT = {"Engineering": 5, "Marketing": 3, "Sales": 3, "Human Resources": 2, "Finance": 2}

Seen = list[RenderableType]


class Unexpected(Exception):
    """An answer is not what it has to be."""

    def __init__(self, what: str, came: object, expected: object) -> None:
        super().__init__(what)
        self.what, self.came, self.expected = what, came, expected


def expect(what: str, came: object, expected: object) -> None:
    """Returns if the two are equal, and raises Unexpected otherwise."""
    if came != expected:
        raise Unexpected(what, came, expected)


def expect_lines(what: str, came: str, *lines: str) -> None:
    """Returns if each line is there, and raises Unexpected otherwise."""
    for line in lines:
        if line not in came.splitlines():
            raise Unexpected(what, came, f"a line {line!r}")


@dataclass
class Chat:
    """A chat backend at work on one chat, and what it remembers from one step to the next."""

    service: client.Sandkeeper
    tell: Callable[[str], None] = print
    """Shows a line of output as it comes."""
    table: Path = SAMPLE
    output: Path = OUTPUT
    chat_id: str = field(default_factory=lambda: f"demo-{uuid.uuid4().hex[:8]}")
    uploaded: client.File = field(init=False)
    sandbox_id: str = ""
    report: client.Artifact = field(init=False)
    """What a program has left behind."""

    def steps(self) -> Iterator[tuple[str, Callable[[], Seen]]]:
        """The fifteen steps, in order."""
        yield "Upload employee_data.csv", self.upload
        yield "Its metadata, read as soon as it was there", self.metadata
        yield "First call: a sandbox for this chat, and the file in it", self.first_call
        yield "Analyse the file with pandas", self.analyse
        yield "Ask how the session is", self.status
        yield "Second question: same sandbox, same variables", self.ask_again
        yield "Draw a plot", self.draw
        yield "Upload an Excel file: what its sheets hold", self.upload_workbook
        yield "Join it with the table; the report that the code writes is kept", self.join
        yield "A program that raises is a result, too", self.fail
        yield "A run of 40 seconds: 202, live output, its result", self.train
        yield "A run that would never end, cancelled", self.cancel
        yield "Close", self.close
        yield "Download the report, though its sandbox is gone", self.download
        yield "The whole chat as a notebook", self.notebook

    @property
    def chat(self) -> client.Chat:
        """The chat, as the client has it."""
        return self.service.chat(self.chat_id)

    def upload(self) -> Seen:
        self.uploaded = self._upload(self.table, "employee_data.csv")
        return [f"{self.uploaded.size:,} bytes, by a presigned POST straight to S3"]

    def _upload(self, path: Path, name: str) -> client.File:
        """A file that has been uploaded, and read."""
        file = self.chat.upload(path, name=name, within_s=READY_WITHIN_S)
        expect("place in the sandbox", file.path, f"/home/user/{name}")
        expect("size of the file", file.size, path.stat().st_size)
        return file

    def metadata(self) -> Seen:
        found = self.chat.file(self.uploaded.file_id)
        expect("status of the file", found.status, "ready")
        expect("headers", [*(found.headers or ())], COLUMNS)
        expect("row count", found.row_count, 15)
        return [f"{found.row_count} rows of {len(COLUMNS)} columns", show.columns(found.tables[0].columns)]

    def first_call(self) -> Seen:
        run = self._run(LOOK_AROUND)
        expect("session", run.session.status, "new")
        expect("files put into the sandbox", run.uploaded_files, ("/home/user/employee_data.csv",))
        expect("the program sees the file", "['employee_data.csv']" in run.text, True)
        expect("files that the code has changed", run.artifacts, ())
        self.sandbox_id = run.sandbox_id
        return [show.code(LOOK_AROUND), show.output(run.text), f"new sandbox {self.sandbox_id}"]

    def analyse(self) -> Seen:
        text = self._run(ANALYSE).text
        expect_lines("what the program printed", text, "shape (15, 7)", "average salary 83666.67")
        counts = {name: int(count) for name, count in series(text) if name in HEADCOUNT}
        expect("people by department", counts, HEADCOUNT)
        return [show.code(ANALYSE), show.output(text)]

    def status(self) -> Seen:
        found = self.chat.status()
        expect("exists", found.exists, True)
        expect("sandbox", found.sandbox_id, self.sandbox_id)
        left_ms = found.expires_in or 0
        expect("expires within half an hour", 0 < left_ms <= 1_800_000, True)
        return [f"it is there, for {left_ms / 60_000:.0f} more minutes unless it is used again"]

    def ask_again(self) -> Seen:
        run = self._run(ASK_AGAIN)
        self._expect_reuse(run)
        expect("average of Engineering", dict(series(run.text)).get("Engineering"), "105200.00")
        timings = " · ".join(f"{name.removesuffix('Ms')} {ms} ms" for name, ms in run.timings.raw.items())
        return [show.code(ASK_AGAIN), show.output(run.text), timings]

    def draw(self) -> Seen:
        run = self._run(DRAW)
        self._expect_reuse(run)
        images = [each for each in run.results if each.type == "image"]
        expect("images", [each.mime_type for each in images], ["image/png"])
        picture = images[0].data
        expect("first bytes of the picture", picture[: len(PNG)], PNG)
        charts = [each.content for each in run.results if each.type == "chart"]
        expect("bars in the chart's data", [len(chart["elements"]) for chart in charts], [len(HEADCOUNT)])
        saved = self._save(PLOT, picture)
        return [
            show.code(DRAW),
            f"{len(picture):,} bytes of PNG, saved as {shown(saved)}, and the chart as data:",
            show.bars(charts[0]),
        ]

    def upload_workbook(self) -> Seen:
        found = self._upload(WORKBOOK, "departments.xlsx")
        sheets = {table.name: table.columns for table in found.tables}
        types = {name: {each.name: each.type for each in columns} for name, columns in sheets.items()}
        expect("columns and their types, by sheet", types, SHEETS)
        expect("rows of the sheets", [table.row_count for table in found.tables], [5, 12])
        expect("cells without a value", sum(each.nulls or 0 for each in sheets["Departments"]), 1)
        seen: Seen = []
        for table in found.tables:
            seen += [f"{table.name}: {table.row_count} rows", show.columns(table.columns)]
        return seen

    def join(self) -> Seen:
        run = self._run(JOIN)
        self._expect_reuse(run)
        expect("dataframes as data", sum(each.type == "table" for each in run.results), 1)
        (self.report,) = run.artifacts
        kept = (self.report.path, self.report.mime_type, self.report.status)
        expect("the file that the code has written", kept, ("/home/user/report.xlsx", SPREADSHEET, "stored"))
        expect("people of Engineering are in the table", "Ada Novak" in run.written("text/html"), True)
        return [show.code(JOIN), f"the dataframe, as HTML and as data; and {self.report.size:,} bytes of Excel"]

    def download(self) -> Seen:
        found = [each.artifact_id for each in self.chat.artifacts()]
        expect("the chat's artifacts", found, [self.report.artifact_id])
        content = self.chat.download(self.report)
        expect("size of the download", len(content), self.report.size)
        expect("first bytes of an Excel file", content[: len(ZIP)], ZIP)
        return [f"{len(content):,} bytes of Excel, saved as {shown(self._save(REPORT, content))}"]

    def notebook(self) -> Seen:
        notebook = self.chat.notebook()
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
        expect("programs in it", [code for code in (ANALYSE, DRAW, JOIN) if code not in sources], [])
        expect("cells with output", sum(bool(cell["outputs"]) for cell in cells), len(cells))
        saved = self._save(NOTEBOOK, json.dumps(notebook, indent=1, ensure_ascii=False).encode())
        return [f"{len(cells)} cells with all their outputs, saved as {shown(saved)}: open it in Jupyter"]

    def _save(self, name: str, content: bytes) -> Path:
        """Where the content has been written to."""
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / name
        path.write_bytes(content)
        return path

    def fail(self) -> Seen:
        run = self.chat.run(RAISE)
        self._expect_reuse(run)
        expect("success", run.success, False)
        expect("error", run.error, "KeyError: 'Bonus'")
        expect("kind of error", kind_of(run), "user_code")
        return [show.code(RAISE), show.output(run.error or ""), "HTTP 200, success: false"]

    def train(self) -> Seen:
        execution = self._begin(TRAIN)
        lines = [*self._follow(execution)]
        expect("live output", lines, [f"{percent} % trained" for percent in range(10, 101, 10)])
        run = execution.wait()
        expect("success", run.success, True)
        expect("all of its output", run.text.splitlines(), lines)
        took_s = run.timings.run_ms / 1000
        return [show.code(TRAIN), f"202 at once, and its result after {took_s:.1f} s, which anybody may ask for"]

    def cancel(self) -> Seen:
        execution = self._begin(NEVER_ENDS)
        for line in self._follow(execution):
            if line == "lap 3":
                break
        run = execution.cancel()
        expect("kind of error", kind_of(run), "cancelled")
        expect_lines("partial output", run.text, "lap 1", "lap 2", "lap 3")
        kept = self._run("lap >= 3, trained")
        self._expect_reuse(kept)
        expect("variables stay", kept.text, "(True, 100)")
        return [show.code(NEVER_ENDS), "cancelled in its third lap: output and variables are kept"]

    def _begin(self, code: str) -> client.Execution:
        """The run of a program that is not waited for."""
        execution = self.chat.start(code)
        expect("state", execution.look().state, "running")
        return execution

    def _follow(self, execution: client.Execution) -> Iterator[str]:
        """The lines that the run prints, as it prints them; a busy kernel may tell one in two pieces."""
        begun = ""
        for event in execution.events():
            if isinstance(event, client.Output):
                *lines, begun = (begun + event.text).split("\n")
                for line in lines:
                    self.tell(line)
                    yield line

    def close(self) -> Seen:
        self.chat.close()
        expect("exists", self.chat.status().exists, False)
        return ["sandbox killed, session gone"]

    def _run(self, code: str) -> client.Run:
        """What came of a program that has to succeed."""
        run = self.chat.run(code)
        expect("error", run.error, None)
        expect("success", run.success, True)
        return run

    def _expect_reuse(self, run: client.Run) -> None:
        expect("sandbox", run.sandbox_id, self.sandbox_id)
        expect("session", run.session.status, "reused")
        expect("state was reset", run.session.state_reset, False)


def kind_of(run: client.Run) -> str | None:
    """Why a run did not succeed, in a word."""
    return None if run.error_detail is None else run.error_detail.kind


def series(text: str) -> Iterator[tuple[str, str]]:
    """Name and value of each line of a printed pandas Series."""
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        yield name.strip(), value


def walk(chat: Chat, display: show.Show) -> bool:
    """Whether every answer was as expected; shows each step, and stops at the first that went wrong."""
    for number, (title, step) in enumerate(chat.steps(), start=1):
        where = f"step {number}, {title!r}"
        try:
            with display.doing(title):
                started = time.perf_counter()
                seen = step()
                duration_s = time.perf_counter() - started
        except Unexpected as error:
            display.failed(f"{where}: {error.what}", error.expected, error.came)
        except client.UnexpectedReply as error:
            display.failed(where, "the documented fields in the answer", str(error))
        except client.SandkeeperError as error:
            display.failed(where, "a success", str(error))
        except (LookupError, TypeError, ValueError) as error:
            display.failed(where, "the documented values in the answer", repr(error))
        else:
            display.passed(str(number), title, duration_s, seen)
            continue
        return False
    return True


def run(settings: Settings, console: Console, logs: Path, table: Path = SAMPLE, output: Path = OUTPUT) -> int:
    """The exit code of the whole demo, which leaves no server behind: 0 if every step was as expected."""
    display = show.Show(console)
    display.title()
    started = time.monotonic()
    passed = False
    try:
        with ExitStack() as ending:
            with display.doing("starting sandboxes, AWS and API"):
                stack = ending.enter_context(Stack(settings.on_free_ports(), logs, display.ready))
            display.started(time.monotonic() - started)
            http = httpx.Client(trust_env=False)
            service = client.Sandkeeper(stack.settings.api_url, settings.api_key, retries=RETRIES, http=http)
            passed = walk(Chat(ending.enter_context(service), display.live, table, output), display)
            stack.check()
    except StackError as error:
        display.broken(str(error))
        passed = False
    if not passed:
        display.say(f"The demo failed. The servers' logs: {shown(logs)}/*.log")
        return 1
    display.say(f"All steps as expected, and everything stopped, in {show.duration(time.monotonic() - started)}.")
    display.say("`make run` serves the same until Ctrl-C.")
    return 0
