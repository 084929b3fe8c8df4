"""`SandboxProvider.complete`: in memory, and by real kernels through the runner on the local sandbox server."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from sandkeeper.model import RunEnd, SandboxRef
from sandkeeper.ports import Completion, Completions, SandboxGone, SandboxProvider
from tests.contract.sandboxes import (
    GOES_ON,
    InMemory,
    OnTheLocalServer,
    Pause,
    asked,
    create,
    followed,
    order,
    outcome_of,
    printed,
    ran,
)

HUNG = """
class Slow:
    def __dir__(self):
        import time
        time.sleep({seconds})
        return ['never']
slow = Slow()
"""


def texts(found: Completions | None) -> list[str]:
    """Returns what could stand there."""
    assert found is not None
    return [match.text for match in found.matches]


def at_the_end(provider: SandboxProvider, sandbox: SandboxRef, code: str) -> Completions | None:
    """Returns what could stand at the end of the code."""
    return provider.complete(sandbox, code, len(code))


class CompletionContract:
    """The cases; a subclass gives `provider`, `pause`, and `live`: a sandbox that tests may share."""

    def test_what_a_run_has_named_is_found_by_its_beginning(
        self, provider: SandboxProvider, live: SandboxRef
    ) -> None:
        ran(provider, live, "salaries = 1")

        found = provider.complete(live, "print(salar)", 11)

        assert found == Completions(6, 11, [Completion("salaries", "variable")])

    def test_characters_are_counted_not_bytes(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "größe_in_cm = 1")

        found = at_the_end(provider, live, "'😀'; größ")

        assert found == Completions(5, 9, [Completion("größe_in_cm", "variable")])

    def test_where_nothing_could_stand_nothing_is_told(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "1")

        assert texts(at_the_end(provider, live, "there_is_no_such_name")) == []

    def test_it_is_told_while_code_runs(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "salaries = 1")
        wanted = order(GOES_ON)
        asked(provider, live, wanted, wait=timedelta(seconds=1))

        assert "salaries" in texts(at_the_end(provider, live, "sala"))

        assert provider.cancel(live, wanted.run_id).found
        assert outcome_of(followed(provider, live, wanted.run_id)).end is RunEnd.CANCELLED

    def test_a_paused_sandbox_is_not_woken(self, provider: SandboxProvider, pause: Pause) -> None:
        made = create(provider)
        ran(provider, made, "salaries = 1")
        pause(made)

        with pytest.raises(SandboxGone):
            at_the_end(provider, made, "sala")
        with pytest.raises(SandboxGone):  # still
            at_the_end(provider, made, "sala")
        provider.kill(made.sandbox_id)


class TestInMemory(InMemory, CompletionContract):
    pass


class TestOnTheLocalServer(OnTheLocalServer, CompletionContract):
    def test_objects_say_what_they_have(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "import pandas as pd\ndf = pd.DataFrame({'Salary': [1], 'Age in years': [2]})")

        assert texts(at_the_end(provider, live, "df.Sal")) == [".Salary"]
        assert texts(at_the_end(provider, live, "df.groupb")) == [".groupby"]
        found = at_the_end(provider, live, "df['Age")
        assert found == Completions(4, 7, [Completion("Age in years", "dict key")])

    def test_neither_count_nor_history_nor_names_move(self, provider: SandboxProvider, live: SandboxRef) -> None:
        looked = "print(get_ipython().execution_count, len(In), len(globals()), 'listening' in globals())"
        ran(provider, live, looked)
        count, inputs, names, is_left = printed(ran(provider, live, looked)).split()

        for _ in range(5):
            at_the_end(provider, live, "pri")

        after = printed(ran(provider, live, looked)).split()
        # A run adds itself: to the count, to the history, and to the names as `_i7`.
        assert after == [str(int(count) + 1), str(int(inputs) + 1), str(int(names) + 1), is_left]
        assert is_left == "False"

    def test_no_more_is_told_than_anybody_reads(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "for n in range(900): globals()[f'many_{n}'] = n")

        assert len(texts(at_the_end(provider, live, "many_"))) == 200

    def test_before_the_first_run_there_is_nothing_or_what_python_has(self, provider: SandboxProvider) -> None:
        made = create(provider)

        assert at_the_end(provider, made, "pri") is None  # no runner has been started in it

        provider.prepare(made)
        ran(provider, made, "1")
        assert "print" in texts(at_the_end(provider, made, "pri"))
        provider.kill(made.sandbox_id)

    def test_an_object_that_takes_too_long_is_waited_for_no_longer_and_holds_up_no_run(
        self, provider: SandboxProvider
    ) -> None:
        made = create(provider)
        ran(provider, made, HUNG.format(seconds=3))

        assert at_the_end(provider, made, "slow.") is None
        assert printed(ran(provider, made, "print('a run')")) == "a run\n"
        assert at_the_end(provider, made, "slo") is None  # it is asked one thing at a time
        ran(provider, made, "import time; time.sleep(3)")
        assert texts(at_the_end(provider, made, "slo")) == ["slow"]
        provider.kill(made.sandbox_id)

    def test_a_fresh_kernel_completes_what_it_has_itself(self, provider: SandboxProvider) -> None:
        made = create(provider)
        ran(provider, made, "salaries = 1")

        provider.restart_kernel(made)
        assert at_the_end(provider, made, "sala") is None
        ran(provider, made, "wages = 1")

        assert texts(at_the_end(provider, made, "sala")) == []
        assert texts(at_the_end(provider, made, "wage")) == ["wages"]
        provider.kill(made.sandbox_id)

    def test_code_that_has_taken_the_completers_place_is_not_believed(self, provider: SandboxProvider) -> None:
        made = create(provider)
        told = '{"start": 0, "end": 99, "matches": [{"text": "x", "kind": "y"}]}'
        ran(
            provider,
            made,
            f"""
import glob, os, socket, threading
(path,) = glob.glob('/tmp/completer-*')
os.unlink(path)
listening = socket.socket(socket.AF_UNIX)
listening.bind(path)
listening.listen()
def answer():
    while True:
        connection, _ = listening.accept()
        connection.recv(10_000)
        try:
            connection.sendall(told)
        except OSError:
            pass
        connection.close()
told = b'{told}'
threading.Thread(target=answer, daemon=True).start()
""",
        )

        assert at_the_end(provider, made, "pri") is None
        for nonsense in ("b'[]'", "b'7'", "b'{'", "b'{\"start\": 1}'", "b'[' * 100_000", "b'x' * 5_000_000"):
            ran(provider, made, f"told = {nonsense}")
            assert at_the_end(provider, made, "pri") is None, nonsense
        ran(provider, made, 'told = b\'{"start": 0, "end": 3, "matches": [{"text": "<b>", "kind": "y"}]}\'')
        assert at_the_end(provider, made, "pri") == Completions(0, 3, [Completion("<b>", "y")])
        provider.kill(made.sandbox_id)

    def test_many_may_ask_at_once(self, provider: SandboxProvider, live: SandboxRef) -> None:
        ran(provider, live, "salaries = 1")

        with ThreadPoolExecutor(8) as threads:
            told = [*threads.map(lambda _: at_the_end(provider, live, "sala"), range(24))]

        assert {tuple(texts(found)) for found in told if found is not None} == {("salaries",)}
