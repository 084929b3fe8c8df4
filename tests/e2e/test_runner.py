"""The runner in a real sandbox, asked as handlers ask it: over HTTP, through the sandbox's address."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import httpx
import pytest
from e2b_code_interpreter import Sandbox

from sandkeeper.adapters.runner.package import start_command
from sandkeeper.runner.__main__ import PORT
from tests.sandbox_server import Server, eventually

Event = dict[str, Any]
TOKEN = "secret"
PATIENCE_MS = 30_000


@dataclass
class Runner:
    """The runner of one sandbox."""

    sandbox: Sandbox
    client: httpx.Client

    def start(self) -> None:
        """Returns when it answers; starts it unless it runs."""
        tokens = {"RUNNER_TOKEN": TOKEN, "RUNNER_INTERPRETER_TOKEN": self.sandbox._envd_access_token or ""}
        said = self.sandbox.commands.run(start_command(), user="root", envs=tokens)
        assert (said.stdout, said.stderr) == ("ready\n", "")

    def post(
        self, run_id: str, code: str, *, after: int = 0, wait_ms: int = PATIENCE_MS, **order: Any
    ) -> httpx.Response:
        """Returns the answer to a request to run code."""
        parameters = {"after": after, "wait_ms": wait_ms}
        return self.client.post(f"/runs/{run_id}", params=parameters, json=body_of(code, **order))

    def run(self, run_id: str, code: str, **options: Any) -> list[Event]:
        """Returns a run's events, until its end or `wait_ms`."""
        return events(self.post(run_id, code, **options))

    def get(self, run_id: str, after: int = 0, wait_ms: int = PATIENCE_MS) -> list[Event]:
        """Returns the events of a run that there is."""
        return events(self.client.get(f"/runs/{run_id}", params={"after": after, "wait_ms": wait_ms}))

    def follow(self, run_id: str, code: str, **order: Any) -> Iterator[Event]:
        """Yields a run's events as they come."""
        with self.client.stream(
            "POST", f"/runs/{run_id}?wait_ms={PATIENCE_MS}", json=body_of(code, **order)
        ) as reply:
            yield from (json.loads(line) for line in reply.iter_lines() if line)


def body_of(code: str, **order: Any) -> dict[str, Any]:
    """Returns a request's body; `order` is what differs from the usual."""
    usual = {"limit_ms": 20_000, "output_bytes": 100_000, "on_busy": "wait", "about": {"asked_by": "a test"}}
    return {**usual, "digest": code, "code": code, **order}


def events(reply: httpx.Response) -> list[Event]:
    assert reply.status_code == 200, reply.text
    return [json.loads(line) for line in reply.text.splitlines() if line]


def text(of: list[Event], kind: str = "stdout") -> str:
    return "".join(event["text"] for event in of if event["type"] == kind)


def only(of: list[Event], kind: str) -> Event:
    (event,) = (event for event in of if event["type"] == kind)
    return event


@pytest.fixture
def made(sandbox: Sandbox, sandboxes: Server) -> Iterator[Runner]:
    headers = {"Host": sandbox.get_host(PORT), "Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=sandboxes.url, headers=headers, timeout=60) as client:
        made = Runner(sandbox, client)
        made.start()
        yield made


def kinds(types: Iterable[str]) -> list[str]:
    """Returns types of events in their order: a busy kernel may tell one line in several pieces."""
    return [kind for kind, _ in groupby(types)]


class TestARun:
    def test_has_numbered_events_from_its_acceptance_to_its_end(self, made: Runner) -> None:
        got = made.run("a", "print('out')\nimport sys; print('err', file=sys.stderr)\n1 + 1")
        assert [event["n"] for event in got] == list(range(1, len(got) + 1))
        assert kinds(event["type"] for event in got) == ["accepted", "started", "stdout", "stderr", "result", "end"]
        assert got[1]["reset"] is None
        assert (text(got), text(got, "stderr"), only(got, "result")["text"]) == ("out\n", "err\n", "2")
        assert (got[-1]["end"], got[-1]["reset"]) == ("finished", False)
        assert sorted(event["at"] for event in got) == [event["at"] for event in got]
        assert got[0]["about"] == {"asked_by": "a test"}, "whoever asks later is told what the first one knew"

    def test_that_fails_is_finished_and_has_its_error(self, made: Runner) -> None:
        got = made.run("a", "print('before')\n1 / 0")
        assert only(got, "error")["name"] == "ZeroDivisionError"
        assert [event["type"] for event in got][-3:] == ["stdout", "error", "end"]
        assert got[-1]["end"] == "finished"

    def test_sees_what_runs_before_it_left(self, made: Runner) -> None:
        made.run("a", "x = 41")
        assert only(made.run("b", "x += 1\nx"), "result")["text"] == "42"

    def test_is_counted_from_the_first_one_on_as_in_any_kernel(self, made: Runner) -> None:
        count = "get_ipython().execution_count"
        other = made.sandbox.create_code_context()
        for run_id in ("a", "b"):
            expected = made.sandbox.run_code(count, context=other).text
            assert only(made.run(run_id, count), "result")["text"] == expected

    def test_is_heard_of_while_it_goes_on(self, made: Runner) -> None:
        """The code waits for a file that is made only once its output was seen."""
        wait = "while not os.path.exists('/home/user/go'): time.sleep(0.01)"
        code = f"import os, time\nprint('waiting')\n{wait}\n'gone on'"
        seen = []
        for event in made.follow("a", code):
            seen.append(event["type"])
            if event["type"] == "stdout":
                made.sandbox.files.write("/home/user/go", "")
        assert kinds(seen) == ["accepted", "started", "stdout", "result", "end"]

    def test_of_the_same_id_is_never_made_twice(self, made: Runner) -> None:
        made.run("zero", "count = 0")
        code = "import time; time.sleep(0.3); count += 1; count"
        with ThreadPoolExecutor(5) as callers:
            all_got = list(callers.map(lambda _: made.run("one", code), range(5)))
        assert all(only(got, "result")["text"] == "1" for got in all_got)
        assert made.run("one", code) == all_got[0]
        assert only(made.run("two", "count"), "result")["text"] == "1"

    def test_of_a_known_id_that_asks_for_something_else_is_refused(self, made: Runner) -> None:
        made.run("a", "1")
        assert made.post("a", "2").status_code == 422

    def test_is_read_from_any_number_on_also_after_its_end(self, made: Runner) -> None:
        got = made.run("a", "for n in range(3): print(n, flush=True)\nn")
        for after in range(len(got) + 2):
            assert made.get("a", after) == got[after:]

    def test_goes_on_when_nobody_listens(self, made: Runner) -> None:
        begun = made.run("a", "import time; time.sleep(0.5); 'done'", wait_ms=50)
        assert [event["type"] for event in begun][:1] == ["accepted"]
        rest = made.get("a", len(begun))
        assert (only(rest, "result")["text"], rest[-1]["end"]) == ("done", "finished")

    def test_that_is_not_known_is_not_found(self, made: Runner) -> None:
        assert made.client.get("/runs/none").status_code == 404
        assert made.client.post("/runs/none/cancel").status_code == 404
        assert made.client.get("/runs/..%2Ftokens").status_code == 404

    def test_is_forgotten_when_50_others_came_after_it(self, made: Runner) -> None:
        for number in range(53):
            made.run(f"r{number}", "1")
        assert made.client.get("/runs/r0").status_code == 404
        assert made.get("r52")[-1]["end"] == "finished"
        assert made.get("r10")[-1]["end"] == "finished"

    @pytest.mark.parametrize("missing", ["limit_ms", "output_bytes", "on_busy", "digest", "code", "about"])
    def test_that_is_not_fully_ordered_is_refused_and_keeps_nobody_up(self, made: Runner, missing: str) -> None:
        body = body_of("1")
        del body[missing]
        reply = made.client.post("/runs/a", json=body)
        assert (reply.status_code, reply.json()) == (400, {"error": missing})
        assert made.client.get("/runs/a").status_code == 404
        assert made.run("a", "1")[-1]["end"] == "finished"


class TestOneAtATime:
    def test_runs_wait_for_those_before_them(self, made: Runner) -> None:
        made.run("zero", "order = []")
        made.run("one", "import time; time.sleep(0.5); order.append(1)", wait_ms=0)
        made.run("two", "order.append(2)", wait_ms=0)
        assert made.client.get("/").json() == {"open": ["one", "two"]}
        got = made.run("three", "order.append(3); order")
        assert only(got, "result")["text"] == "[1, 2, 3]"
        assert only(got, "accepted")["ahead_ms"] == 40_000
        assert made.client.get("/").json() == {"open": []}

    def test_a_run_that_may_not_wait_is_refused_and_not_kept(self, made: Runner) -> None:
        made.run("one", "import time; time.sleep(20)", wait_ms=0)
        assert made.post("two", "1", on_busy="reject").json() == {"error": "busy"}
        assert made.client.get("/runs/two").status_code == 404
        made.client.post("/cancel")
        assert made.run("two", "1", on_busy="reject")[-1]["end"] == "finished"

    def test_a_run_too_many_is_refused(self, made: Runner) -> None:
        made.run("long", "import time; time.sleep(20)", wait_ms=0)
        replies = [made.post(f"r{number}", "1", wait_ms=0) for number in range(22)]
        assert [reply.status_code for reply in replies][-1:] == [409]
        assert replies[-1].json() == {"error": "full"}


class TestEnds:
    def test_at_its_limit_code_is_interrupted_and_variables_stay(self, made: Runner) -> None:
        made.run("zero", "kept = 'yes'")
        got = made.run("a", "import time\nprint('begun')\ntime.sleep(20)", limit_ms=300)
        assert text(got) == "begun\n"
        assert (got[-1]["end"], got[-1]["reset"]) == ("timeout", False)
        assert only(made.run("b", "kept"), "result")["text"] == "yes"

    def test_code_that_takes_no_notice_loses_its_kernel_and_the_next_run_is_told(self, made: Runner) -> None:
        made.run("zero", "lost = 1")
        sleep = "    try:\n        time.sleep(30)\n    except KeyboardInterrupt:\n        pass"
        code = f"import time\nwhile True:\n{sleep}"
        got = made.run("a", code, limit_ms=100)
        assert (got[-1]["end"], got[-1]["reset"]) == ("timeout", True)
        after = made.run("b", "'lost' in globals()")
        assert (only(after, "started")["reset"], only(after, "result")["text"]) == ("kernel_died", "False")
        assert only(made.run("c", "1"), "started")["reset"] is None

    def test_a_cancelled_run_has_what_it_said_before(self, made: Runner) -> None:
        made.run("zero", "kept = 'yes'")
        for event in made.follow("a", "import time\nprint('begun')\ntime.sleep(20)"):
            if event["type"] == "stdout":
                assert made.client.post("/runs/a/cancel").json() == {"cancelled": True, "ended": True}
        got = made.get("a")
        assert (text(got), got[-1]["end"]) == ("begun\n", "cancelled")
        assert made.client.post("/runs/a/cancel").json() == {"cancelled": False, "ended": True}
        assert only(made.run("b", "kept"), "result")["text"] == "yes"

    def test_a_run_that_waits_is_cancelled_without_having_begun(self, made: Runner) -> None:
        made.run("one", "import time; time.sleep(20)", wait_ms=0)
        made.run("two", "touched = True", wait_ms=0)
        assert made.client.post("/runs/two/cancel").json() == {"cancelled": True, "ended": True}
        assert [event["type"] for event in made.get("two")] == ["accepted", "end"]
        assert made.client.post("/cancel").json() == {"cancelled": True, "ended": True}
        assert only(made.run("three", "'touched' in globals()"), "result")["text"] == "False"

    @pytest.mark.parametrize(
        "flood", ["while True: print('x' * 1000)", "print('x' * 40_000_000)"], ids=["many lines", "one line"]
    )
    def test_a_flood_is_cut_where_it_comes_from(self, made: Runner, flood: str) -> None:
        got = made.run("a", flood, output_bytes=10_000)
        assert got[-1]["end"] == "output_limit"
        assert len(text(got)) <= 10_000
        assert made.run("b", "'still here'")[-1] == {**made.get("b")[-1], "end": "finished", "reset": False}

    def test_a_kernel_that_dies_is_told_then_and_to_the_next_run(self, made: Runner) -> None:
        got = made.run("a", "import os\nos._exit(1)")
        assert (got[-1]["end"], got[-1]["reset"]) == ("kernel_died", True)
        assert not [event for event in got if event["type"] == "error"]
        assert only(made.run("b", "1"), "started")["reset"] == "kernel_died"
        assert only(made.run("c", "1"), "started")["reset"] is None

    def test_a_kernel_that_died_in_between_is_told(self, made: Runner) -> None:
        made.run("a", "import os, threading\nthreading.Timer(0.2, os._exit, (1,)).start()")
        pid = "pgrep -f [i]pykernel_launcher"
        made.sandbox.commands.run(f"for i in $(seq 50); do sleep 0.1; {pid} > /dev/null || break; done; sleep 1")
        assert only(made.run("b", "1"), "started")["reset"] == "kernel_died"

    def test_a_restart_is_told_once(self, made: Runner) -> None:
        made.run("a", "x = 1")
        assert made.client.post("/restart").json() == {}
        got = made.run("b", "'x' in globals()")
        assert (only(got, "started")["reset"], only(got, "result")["text"]) == ("restarted", "False")
        assert only(made.run("c", "1"), "started")["reset"] is None

    def test_a_restart_is_told_though_the_run_after_it_was_stopped_before_it_began(self, made: Runner) -> None:
        made.run("a", "x = 1")
        made.client.post("/restart")
        made.run("b", "1", wait_ms=0)
        made.client.post("/runs/b/cancel")
        after = [*made.get("b"), *made.run("c", "1")]
        began = [event["reset"] for event in after if event["type"] == "started"]
        assert began[0] == "restarted", "by the first that begins: now and then that is the one to be stopped"
        assert not any(began[1:])


class TestTheRunner:
    def test_asks_for_the_token(self, made: Runner) -> None:
        for given in ("", "Bearer wrong", TOKEN):
            assert made.client.get("/", headers={"Authorization": given}).status_code == 401

    def test_is_started_once_however_often_it_is_started(self, made: Runner) -> None:
        with ThreadPoolExecutor(3) as starters:
            for done in [starters.submit(made.start) for _ in range(3)]:
                done.result()
        count = "pgrep -fc '[s]andkeeper.runner'"
        eventually(lambda: made.sandbox.commands.run(count, user="root").stdout == "1\n")

    def test_outlives_a_pause_with_what_it_runs(self, made: Runner) -> None:
        made.run("a", "import time\nfor _ in range(10): time.sleep(0.1)\n'done'", wait_ms=100)
        assert made.sandbox.pause()
        Sandbox.connect(made.sandbox.sandbox_id, timeout=120)
        got = made.get("a")
        assert (only(got, "result")["text"], got[-1]["end"]) == ("done", "finished")

    def test_that_was_killed_is_started_again_and_tells_which_run_it_lost(self, made: Runner) -> None:
        made.run("zero", "kept = 'yes'")
        made.run("a", "import time; time.sleep(20)", wait_ms=500)
        made.sandbox.commands.run("pkill -9 -f [s]andkeeper.runner", user="root")
        made.start()
        assert made.get("a")[-1]["end"] == "lost"
        assert only(made.get("zero"), "end")["end"] == "finished"
        got = made.run("b", "kept")
        assert (only(got, "started")["reset"], only(got, "result")["text"]) == (None, "yes")
        assert made.post("a", "import time; time.sleep(20)").status_code == 200
