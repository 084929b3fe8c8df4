"""The main job, done over HTTP as a chat backend does it, with every answer checked and shown.

A step returns what is worth seeing, and raises Unexpected if the answer is not what it has to be.
"""

import base64
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
from rich.console import Console, RenderableType

from local import show
from local.processes import StackError
from local.project import ROOT, SAMPLE, WORKBOOK, shown
from local.settings import Settings
from local.stack import Stack
from local.story import ANALYSE, ASK_AGAIN, DRAW, JOIN, LOOK_AROUND, NEVER_ENDS, RAISE, TRAIN

OUTPUT = ROOT / "demo-output"
PLOT, REPORT, NOTEBOOK = "salaries.png", "report.xlsx", "chat.ipynb"
READY_WITHIN_S = 20
CALL_WITHIN_S = 60
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

Answer = dict[str, Any]
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

    http: httpx.Client
    api_key: str
    tell: Callable[[str], None] = print
    """Shows a line of output as it comes."""
    table: Path = SAMPLE
    output: Path = OUTPUT
    chat_id: str = field(default_factory=lambda: f"demo-{uuid.uuid4().hex[:8]}")
    file_id: str = ""
    sandbox_id: str = ""
    report: Answer = field(default_factory=dict)
    """The artifact that a program has left behind."""

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

    def upload(self) -> Seen:
        content = self.table.read_bytes()
        self.file_id = self._upload("employee_data.csv", content, "text/csv")
        return [f"{len(content):,} bytes, by a presigned POST straight to S3"]

    def _upload(self, name: str, content: bytes, content_type: str) -> str:
        """The id of a file that has been uploaded."""
        described = {"fileName": name, "size": len(content), "contentType": content_type}
        ticket = self._call("POST", f"{self._chat}/files", json=described)
        expect("place in the sandbox", ticket["path"], f"/home/user/{name}")
        upload = ticket["upload"]
        part = (name, content, content_type)
        stored = self.http.post(upload["url"], data=upload["fields"], files={"file": part})
        expect(f"the upload was taken ({stored.status_code} {stored.text})", stored.is_success, True)
        return str(ticket["fileId"])

    def metadata(self) -> Seen:
        found = self._read(self.file_id)
        expect("headers", found["headers"], COLUMNS)
        expect("row count", found["rowCount"], 15)
        return [f"{found['rowCount']} rows of {len(COLUMNS)} columns", show.columns(found["tables"][0]["columns"])]

    def _read(self, file_id: str) -> Answer:
        """What is known of a file once it has been read."""
        path = f"{self._chat}/files/{file_id}"
        deadline = time.monotonic() + READY_WITHIN_S
        while (found := self._call("GET", path))["status"] == "pending" and time.monotonic() < deadline:
            time.sleep(0.05)
        expect("status of the file", found["status"], "ready")
        return found

    def first_call(self) -> Seen:
        answer = self._run(LOOK_AROUND)
        expect("session", answer["session"]["status"], "new")
        expect("files put into the sandbox", answer["uploadedFiles"], ["/home/user/employee_data.csv"])
        expect("the program sees the file", "['employee_data.csv']" in printed(answer), True)
        expect("files that the code has changed", answer["artifacts"], [])
        self.sandbox_id = answer["sandboxId"]
        return [show.code(LOOK_AROUND), show.output(printed(answer)), f"new sandbox {self.sandbox_id}"]

    def analyse(self) -> Seen:
        answer = self._run(ANALYSE)
        text = printed(answer)
        expect_lines("what the program printed", text, "shape (15, 7)", "average salary 83666.67")
        counts = {name: int(count) for name, count in series(text) if name in HEADCOUNT}
        expect("people by department", counts, HEADCOUNT)
        return [show.code(ANALYSE), show.output(text)]

    def status(self) -> Seen:
        found = self._call("GET", "/api/jupyter/execute", params={"chatId": self.chat_id})
        expect("exists", found["exists"], True)
        expect("sandbox", found["sandboxId"], self.sandbox_id)
        expect("expires within half an hour", 0 < found["expiresIn"] <= 1_800_000, True)
        return [f"it is there, for {found['expiresIn'] / 60_000:.0f} more minutes unless it is used again"]

    def ask_again(self) -> Seen:
        answer = self._run(ASK_AGAIN)
        self._expect_reuse(answer)
        expect("average of Engineering", dict(series(printed(answer))).get("Engineering"), "105200.00")
        timings = " · ".join(f"{name.removesuffix('Ms')} {ms} ms" for name, ms in answer["timings"].items())
        return [show.code(ASK_AGAIN), show.output(printed(answer)), timings]

    def draw(self) -> Seen:
        answer = self._run(DRAW)
        self._expect_reuse(answer)
        images = [each for each in answer["results"] if each["type"] == "image"]
        expect("images", [each["mimeType"] for each in images], ["image/png"])
        picture = base64.b64decode(images[0]["content"])
        expect("first bytes of the picture", picture[: len(PNG)], PNG)
        charts = [each["content"] for each in answer["results"] if each["type"] == "chart"]
        expect("bars in the chart's data", [len(chart["elements"]) for chart in charts], [len(HEADCOUNT)])
        saved = self._save(PLOT, picture)
        return [
            show.code(DRAW),
            f"{len(picture):,} bytes of PNG, saved as {shown(saved)}, and the chart as data:",
            show.bars(charts[0]),
        ]

    def upload_workbook(self) -> Seen:
        found = self._read(self._upload("departments.xlsx", WORKBOOK.read_bytes(), SPREADSHEET))
        sheets = {table["name"]: table["columns"] for table in found["tables"]}
        types = {name: {each["name"]: each["type"] for each in columns} for name, columns in sheets.items()}
        expect("columns and their types, by sheet", types, SHEETS)
        expect("rows of the sheets", [table["rowCount"] for table in found["tables"]], [5, 12])
        expect("cells without a value", sum(each["nulls"] for each in sheets["Departments"]), 1)
        seen: Seen = []
        for table in found["tables"]:
            seen += [f"{table['name']}: {table['rowCount']} rows", show.columns(table["columns"])]
        return seen

    def join(self) -> Seen:
        answer = self._run(JOIN)
        self._expect_reuse(answer)
        tables = [each["content"] for each in answer["results"] if each["type"] == "table"]
        expect("dataframes as data", len(tables), 1)
        (self.report,) = answer["artifacts"]
        kept = (self.report["path"], self.report["mimeType"], self.report["status"])
        expect("the file that the code has written", kept, ("/home/user/report.xlsx", SPREADSHEET, "stored"))
        rows = printed(answer, "text/html")
        expect("people of Engineering are in the table", "Ada Novak" in rows, True)
        return [show.code(JOIN), f"the dataframe, as HTML and as data; and {self.report['size']:,} bytes of Excel"]

    def download(self) -> Seen:
        found = self._call("GET", f"{self._chat}/artifacts")["artifacts"]
        expect("the chat's artifacts", [each["artifactId"] for each in found], [self.report["artifactId"]])
        led = self.http.get(f"{self._chat}/artifacts/{self.report['artifactId']}", headers=self._headers)
        expect("status code", led.status_code, 302)
        content = self.http.get(led.headers["location"]).content
        expect("size of the download", len(content), self.report["size"])
        expect("first bytes of an Excel file", content[: len(ZIP)], ZIP)
        return [f"{len(content):,} bytes of Excel, saved as {shown(self._save(REPORT, content))}"]

    def notebook(self) -> Seen:
        answer = self.http.get(f"{self._chat}/notebook", headers=self._headers, follow_redirects=True)
        expect("status code", answer.status_code, 200)
        cells = [cell for cell in answer.json()["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
        expect("programs in it", [code for code in (ANALYSE, DRAW, JOIN) if code not in sources], [])
        expect("cells with output", sum(bool(cell["outputs"]) for cell in cells), len(cells))
        saved = self._save(NOTEBOOK, answer.content)
        return [f"{len(cells)} cells with all their outputs, saved as {shown(saved)}: open it in Jupyter"]

    def _save(self, name: str, content: bytes) -> Path:
        """Where the content has been written to."""
        self.output.mkdir(parents=True, exist_ok=True)
        path = self.output / name
        path.write_bytes(content)
        return path

    def fail(self) -> Seen:
        answer = self._execute(RAISE)
        self._expect_reuse(answer)
        expect("success", answer["success"], False)
        expect("error", answer["error"], "KeyError: 'Bonus'")
        expect("kind of error", answer["errorDetail"]["kind"], "user_code")
        return [show.code(RAISE), show.output(answer["error"]), "HTTP 200, success: false"]

    def train(self) -> Seen:
        accepted = self._begin(TRAIN)
        lines = [*self._follow(accepted)]
        expect("live output", lines, [f"{percent} % trained" for percent in range(10, 101, 10)])
        run = self._call("GET", accepted["statusUrl"])
        expect("state", run["state"], "ended")
        expect("success", run["result"]["success"], True)
        expect("all of its output", printed(run["result"]).splitlines(), lines)
        took_s = run["result"]["timings"]["runMs"] / 1000
        return [show.code(TRAIN), f"202 at once, and its result after {took_s:.1f} s, which anybody may ask for"]

    def cancel(self) -> Seen:
        accepted = self._begin(NEVER_ENDS)
        for line in self._follow(accepted):
            if line == "lap 3":
                break
        run = self._call("POST", f"{accepted['statusUrl']}/cancel")
        expect("state", run["state"], "ended")
        expect("kind of error", run["result"]["errorDetail"]["kind"], "cancelled")
        expect_lines("partial output", printed(run["result"]), "lap 1", "lap 2", "lap 3")
        kept = self._run("lap >= 3, trained")
        self._expect_reuse(kept)
        expect("variables stay", printed(kept), "(True, 100)")
        return [show.code(NEVER_ENDS), "cancelled in its third lap: output and variables are kept"]

    def _begin(self, code: str) -> Answer:
        """The answer to a program that is not waited for: where its run is followed."""
        body = {"chatId": self.chat_id, "code": code, "mode": "async"}
        answer = self.http.post("/api/jupyter/execute", headers=self._headers, json=body)
        expect("status code", answer.status_code, 202)
        accepted = dict(answer.json())
        expect("state", accepted["state"], "running")
        return accepted

    def _follow(self, accepted: Answer) -> Iterator[str]:
        """The lines that the run prints, as it prints them; asks again where a connection ends before the run."""
        last, headers = "", self._headers
        while True:
            with httpx_sse.connect_sse(self.http, "GET", accepted["eventsUrl"], headers=headers) as events:
                for event in events.iter_sse():
                    last = event.id or last
                    for line in printed(event.json()).splitlines() if event.event == "output" else ():
                        self.tell(line)
                        yield line
                    if event.event == "end":
                        return
            headers = {**self._headers, "Last-Event-ID": last}

    def close(self) -> Seen:
        self._call("DELETE", "/api/jupyter/execute", params={"chatId": self.chat_id})
        found = self._call("GET", "/api/jupyter/execute", params={"chatId": self.chat_id})
        expect("exists", found["exists"], False)
        return ["sandbox killed, session gone"]

    def _run(self, code: str) -> Answer:
        """The answer to a program that has to succeed."""
        answer = self._execute(code)
        expect("error", answer["error"], None)
        expect("success", answer["success"], True)
        return answer

    def _execute(self, code: str) -> Answer:
        return self._call("POST", "/api/jupyter/execute", json={"chatId": self.chat_id, "code": code})

    def _expect_reuse(self, answer: Mapping[str, Any]) -> None:
        expect("sandbox", answer["sandboxId"], self.sandbox_id)
        expect("session", answer["session"]["status"], "reused")
        expect("state was reset", answer["session"]["stateReset"], False)

    @property
    def _chat(self) -> str:
        return f"/api/chats/{self.chat_id}"

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    def _call(self, method: str, path: str, **request: Any) -> Answer:
        """The JSON of an answer that has to be a success, `{}` for one without a body."""
        answer = self.http.request(method, path, headers=self._headers, **request)
        if not answer.is_success:
            raise Unexpected(f"{method} {path}", f"{answer.status_code} {answer.text}", "a success")
        return dict(answer.json()) if answer.content else {}


def printed(answer: Mapping[str, Any], mime_type: str = "text/plain") -> str:
    """What the program wrote to standard output, or showed in another form."""
    return "".join(each["content"] for each in answer["results"] if each["mimeType"] == mime_type)


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
        except httpx.HTTPError as error:
            display.failed(where, f"an answer within {CALL_WITHIN_S} s", repr(error))
        except (LookupError, TypeError, ValueError) as error:
            display.failed(where, "the documented fields in the answer", repr(error))
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
            client = httpx.Client(base_url=stack.settings.api_url, timeout=CALL_WITHIN_S, trust_env=False)
            chat = Chat(ending.enter_context(client), settings.api_key, display.live, table, output)
            passed = walk(chat, display)
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
