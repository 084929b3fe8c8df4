"""Whatever editors, runs, deaths and clocks do in whatever order, nobody's accepted work is lost."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandkeeper.errors import SessionBusy, StoreUnavailable, VersionStale
from sandkeeper.model import RunEnd, RunOutcome, Stream
from sandkeeper.notebooks import Draft, Notebook
from sandkeeper.services.budget import Budget
from sandkeeper.services.cell_runs import GIVEN_UP, CellAsk
from sandkeeper.services.notebook_plans import PlanAsk
from tests.world import CHAT, CallerDied, Patience, World, new_world

IDS = ("a", "b", "c")
LIMIT = timedelta(seconds=5)


@dataclass
class Chat:
    """A chat with a notebook, two editors of it, and what is to be found there."""

    world: World
    notebook_id: str = ""
    said: dict[str, str] = field(default_factory=dict)
    """Cell → what it was told to say by the last edit that was accepted."""
    seen: dict[tuple[int, str], int] = field(default_factory=dict)
    """Editor and cell → the version that the editor has seen."""
    count: int = 0

    def __post_init__(self) -> None:
        """Makes the notebook; its code goes on until somebody ends it."""
        self.world.sandboxes.program = lambda *_: None
        drafts = [Draft(source="0", cell_id=cell_id) for cell_id in IDS]
        self.notebook_id = self.world.wiring.notebooks.create(CHAT, "x", drafts).notebook_id
        self.said = dict.fromkeys(IDS, "0")
        for editor in (0, 1):
            self.look(editor)

    def head(self) -> Notebook:
        return self.world.wiring.notebooks.get(CHAT, self.notebook_id)

    def look(self, editor: int) -> None:
        """The editor reads all cells."""
        self.seen |= {(editor, slot.cell_id): slot.version for slot in self.head().slots}

    def edit(self, editor: int, cell_id: str) -> None:
        """The editor changes a cell. It is refused just if somebody has changed it since."""
        self.count += 1
        known = self.head().slot(cell_id)
        is_stale = known is not None and known.version != self.seen[editor, cell_id]
        draft = Draft(source=f"{self.count} by {editor}")
        try:
            _, slot = self.world.wiring.notebooks.update(
                CHAT, self.notebook_id, cell_id, self.seen[editor, cell_id], draft
            )
        except VersionStale:
            assert is_stale
        else:
            assert not is_stale
            self.said[cell_id], self.seen[editor, cell_id] = draft.source, slot.version

    def edit_and_die(self, editor: int, cell_id: str) -> None:
        """The editor's call dies once the change is written: it is there, and nobody has been told."""
        self.world.taps["notebook_store"].die_after("commit")
        before = dict(self.said)
        try:
            self.edit(editor, cell_id)
        except CallerDied:
            self.said[cell_id] = f"{self.count} by {editor}"
        finally:
            self.world.taps["notebook_store"].instead.pop("commit", None)
        assert self.said.keys() == before.keys()

    def fail_to_edit(self, editor: int, cell_id: str) -> None:
        """The store fails, and nothing is changed."""
        before = self.head()
        self.world.taps["notebook_store"].fail("commit", StoreUnavailable("throttled"))
        with suppress(StoreUnavailable, VersionStale):
            self.world.wiring.notebooks.update(
                CHAT, self.notebook_id, cell_id, self.seen[editor, cell_id], Draft(source="lost")
            )
        self.world.taps["notebook_store"].errors["commit"].clear()
        assert self.head() == before

    def run(self, _: int, cell_id: str) -> None:
        """A cell is begun."""
        with suppress(SessionBusy):
            ask = CellAsk(limit=LIMIT, mode="async", on_busy="reject")
            self.world.wiring.cell_runs.run(CHAT, self.notebook_id, cell_id, ask)

    def run_and_die(self, editor: int, cell_id: str) -> None:
        """The call dies over a run: when the cell names it, when it has been written down, or when it has begun."""
        port, method = (("notebook_store", "commit"), ("runs", "open"), ("sandboxes", "run"))[self.count % 3]
        self.world.taps[port].die_after(method)
        with suppress(CallerDied):
            self.run(editor, cell_id)
        self.world.taps[port].instead.pop(method, None)

    def run_all(self, *_: object) -> None:
        """All cells are begun."""
        with suppress(SessionBusy):
            self.world.wiring.notebook_plans.run_all(CHAT, self.notebook_id, PlanAsk(limit=LIMIT, mode="async"))

    def finish(self, *_: object) -> None:
        """The code that goes on comes to its end."""
        for (_sandbox_id, run_id), events in [*self.world.sandboxes.runs.items()]:
            if len(events) == 2:  # accepted and started
                self.world.sandboxes.finish(run_id, RunOutcome([Stream("stdout", run_id)], RunEnd.FINISHED))

    def read(self, *_: object) -> None:
        """Somebody looks, who moves on what there is."""
        self.world.wiring.notebook_plans.moved_on(self.head())

    def read_and_die(self, *_: object) -> None:
        """Somebody looks, and dies over moving it on."""
        self.world.taps["notebook_store"].die_after("commit")
        with suppress(CallerDied):
            self.read()
        self.world.taps["notebook_store"].instead.pop("commit", None)

    def wait(self, *_: object) -> None:
        """Time passes."""
        self.world.clock.advance(GIVEN_UP + timedelta(seconds=1))

    def clear(self, *_: object) -> None:
        """What cells show is taken away."""
        self.world.wiring.notebooks.clear(CHAT, self.notebook_id)

    def require_sound(self) -> None:
        """Fails unless what was accepted is there, every change is told, and no part is lost or left over."""
        notebook, cells = self.world.wiring.notebooks.read(CHAT, self.notebook_id)
        assert {cell.slot.cell_id: cell.source.text for cell in cells} == self.said
        told = self.world.notebook_store.deltas(CHAT, self.notebook_id, after=1, limit=10_000)
        assert [delta.version for delta in told] == [*range(2, notebook.version + 1)]
        assert {stamp for _, stamp in self.world.notebook_store.parts} == notebook.refs.keys()

    def require_over(self) -> None:
        """Fails unless all comes to its end once everything works, and each cell shows what its run has."""
        for _ in range(3 * len(IDS)):
            self.finish()
            self.wait()
            self.read()
        notebook, cells = self.world.wiring.notebooks.read(CHAT, self.notebook_id)
        assert (notebook.plan, [*notebook.running]) == (None, [])
        for cell in cells:
            run = cell.slot.run
            if run is not None and run.succeeded:
                assert cell.outputs is not None
                assert [output["text"] for output in cell.outputs] == [run.execution_id]


STEPS: list[Callable[[Chat, int, str], None]] = [
    *(Chat.edit, Chat.edit, Chat.edit_and_die, Chat.fail_to_edit, Chat.run, Chat.run_and_die, Chat.run_all),
    *(Chat.finish, Chat.read, Chat.read_and_die, Chat.wait, Chat.clear, lambda chat, editor, _: chat.look(editor)),
]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0, 1]), st.sampled_from(IDS)), max_size=25))
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_nothing_that_was_accepted_is_lost_and_all_comes_to_its_end(
    steps: list[tuple[Callable[[Chat, int, str], None], int, str]],
) -> None:
    with new_world() as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Budget, "of", Patience(world.clock).budget)
        chat = Chat(world)
        for step, editor, cell_id in steps:
            step(chat, editor, cell_id)
            chat.require_sound()
        chat.require_over()
        chat.require_sound()
