"""`python -m bench calls`: what a call takes over HTTP, beside the bare SDK on the same sandboxes."""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from e2b_code_interpreter import Sandbox

from bench import runs
from bench.chapters import Chapter, milliseconds
from bench.samples import Sample, timed
from local.project import SAMPLE
from local.settings import Settings
from local.stack import Stack

WARM_CALLS = 200
FIRST_CALLS = 12
CHATS_AT_ONCE = 10
POOL_REFILL_S = 4.0

FIRST_CODE = "import pandas as pd\nprint(pd.read_csv('employee_data.csv')['Salary'].mean())"
FIRST_CODE_ALONE = "import pandas as pd\nprint(pd.DataFrame({'a': range(100)})['a'].mean())"


class Client:
    """A chat backend, as far as the bench needs one."""

    def __init__(self, stack: Stack) -> None:
        settings = stack.settings
        self.sandbox_url = settings.sandbox_url
        self.http = httpx.Client(
            base_url=settings.api_url, headers={"Authorization": f"Bearer {settings.api_key}"}, timeout=60
        )

    def run(self, chat_id: str, code: str) -> dict[str, Any]:
        """Returns the reply of a run that must succeed."""
        reply = self.http.post("/api/jupyter/execute", json={"chatId": chat_id, "code": code})
        answer: dict[str, Any] = reply.json()
        if reply.status_code != 200 or not answer["success"]:
            raise RuntimeError(f"{chat_id}: {reply.status_code} {reply.text[:300]}")
        return answer

    def close(self, chat_id: str) -> None:
        """Closes the chat's session."""
        self.http.delete("/api/jupyter/execute", params={"chatId": chat_id}).raise_for_status()

    def upload(self, chat_id: str, path: Path) -> None:
        """Uploads the file and waits until it has been read."""
        content = path.read_bytes()
        files = f"/api/chats/{chat_id}/files"
        request = {"fileName": path.name, "size": len(content), "contentType": "text/csv"}
        registered = self.http.post(files, json=request).json()
        upload = registered["upload"]
        httpx.post(upload["url"], data=upload["fields"], files={"file": content}).raise_for_status()
        while self.http.get(f"{files}/{registered['fileId']}").json()["status"] == "pending":
            time.sleep(0.02)

    def attach(self, sandbox_id: str) -> Sandbox:
        """Returns the same sandbox as the bare SDK sees it."""
        return Sandbox.connect(
            sandbox_id, timeout=600, api_key="bench", api_url=self.sandbox_url, sandbox_url=self.sandbox_url
        )


def warm(client: Client) -> tuple[Sample, Sample]:
    """Returns `1+1` through the API and by the bare SDK, in the same sandbox, in turn."""
    sandbox = client.attach(client.run("warm", "1+1")["sandboxId"])
    api: list[float] = []
    bare: list[float] = []
    for _ in range(WARM_CALLS + 10):
        api.append(timed(lambda: client.run("warm", "1+1")))
        bare.append(timed(lambda: sandbox.run_code("1+1")))
    client.close("warm")
    return Sample("API, warm 1+1", api[10:]), Sample("bare SDK run_code, same sandbox", bare[10:])


def first(client: Client) -> Sample:
    """Returns first calls of new chats: create, file, pandas, mean. The pool is full before each."""
    durations = []
    for number in range(FIRST_CALLS):
        chat_id = f"first-{number}"
        client.upload(chat_id, SAMPLE)
        time.sleep(POOL_REFILL_S)
        durations.append(timed(lambda chat=chat_id: client.run(chat, FIRST_CODE)))  # type: ignore[misc]
        client.close(chat_id)
    return Sample("API, first call of a chat (pandas, CSV, mean)", durations)


def many(client: Client) -> Sample:
    """Returns first calls of several chats at once; one that fails fails the bench."""
    chats = [f"many-{number}" for number in range(CHATS_AT_ONCE)]
    with ThreadPoolExecutor(CHATS_AT_ONCE) as pool:
        durations = [*pool.map(lambda chat: timed(lambda: client.run(chat, FIRST_CODE_ALONE)), chats)]
    for chat in chats:
        client.close(chat)
    return Sample(f"API, first calls of {CHATS_AT_ONCE} chats at once", durations)


def idle_mib(client: Client) -> float:
    """Returns the memory of an idle sandbox that has answered once: its processes' own share (PSS), in MiB."""
    sandbox = client.attach(client.run("idle", "1+1")["sandboxId"])
    time.sleep(1)
    used = sandbox.get_metrics()[-1].mem_used
    client.close("idle")
    return float(used) / 2**20


def chapter() -> Chapter:
    """Measures."""
    with tempfile.TemporaryDirectory() as logs, Stack(Settings().on_free_ports(), Path(logs)) as stack:
        client = Client(stack)
        api, bare = warm(client)
        new = first(client)
        at_once = many(client)
        idle = idle_mib(client)
        os.environ.update(stack.environment)
        durable, direct = runs.warm()
        durable_first, direct_first = runs.first()
        heard = runs.live(client.http)
    over, times = api.median - bare.median, api.median / bare.median
    costs, costs_first = durable.median - direct.median, durable_first.median - direct_first.median
    costs_times = durable.median / direct.median
    return Chapter(
        "Calls",
        """
Over HTTP on the local stack.
""",
        [milliseconds([api, bare, new, at_once, durable, direct, durable_first, direct_first, heard])],
        {
            f"warm 1+1: p50 {api.median:.1f} ms ≤ 20 ms": api.median <= 20,
            f"warm 1+1: {over:.1f} ms ≤ 10 ms over the bare SDK (ratio {times:.2f})": over <= 10,
            f"a durable warm run: {costs:.1f} ms ≤ 5 ms over run_code (ratio {costs_times:.2f})": costs <= 5,
            f"a durable first run: {costs_first:.0f} ms ≤ 50 ms over run_code": costs_first <= 50,
            f"live output: p50 {heard.median:.0f} ms, p95 {heard.quantile(95):.0f} ms ≤ 50 ms": heard.quantile(95)
            <= 50,
            f"first call: p50 {new.median:.0f} ms ≤ 400 ms": new.median <= 400,
            f"idle sandbox: {idle:.0f} MiB ≤ 150 MB ({150e6 / 2**20:.0f} MiB)": idle <= 150e6 / 2**20,
        },
    )
