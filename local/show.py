"""How the demo looks: on a terminal with colours and a spinner, as plain text anywhere else."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from sandkeeper_client import Column

WIDTH = 96
BAR_CELLS = 40
INDENT = 5


def paper(file: TextIO) -> Console:
    """Where to print: as wide as the terminal, and of a fixed width anywhere else."""
    return Console(file=file, width=None if file.isatty() else WIDTH)


class Show:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, WIDTH)
        self._ready: list[str] = []

    def title(self) -> None:
        name, claim = ("Sandkeeper", "bold"), ("the whole service on this machine, no account needed", "dim")
        self.say(Text.assemble(name, "  ", claim, "\n"))

    def doing(self, what: str) -> AbstractContextManager[object]:
        """A spinner for as long as something takes; nothing where there is no terminal."""
        return self._console.status(f"[dim]{what} …", spinner="dots", spinner_style="cyan")

    def ready(self, server: str, after_s: float) -> None:
        """Takes note of a server that got ready."""
        self._ready.append(f"{server} {duration(after_s)}")

    def started(self, duration_s: float) -> None:
        """The stack is up."""
        self.passed("·", "The stack is up", duration_s, ["ready after: " + " · ".join(self._ready)])

    def passed(self, mark: str, title: str, duration_s: float, seen: Sequence[RenderableType]) -> None:
        """Something went as expected: what, how long it took, and what is worth seeing of it."""
        heading = Text.assemble(("✔ ", "green"), (f"{mark}  {title}", "bold"))
        self.say(self._with_duration(heading, duration_s))
        for each in seen:
            self.say(self._indented(Text(each, "dim") if isinstance(each, str) else each))
        self.say()

    def live(self, line: str) -> None:
        """A line that has come just now, while its step goes on."""
        self.say(self._indented(Text(f"▸ {line}", "cyan")))

    def failed(self, where: str, expected: object, came: object) -> None:
        """Something did not go as expected."""
        self.broken(where)
        facts = Table.grid(padding=(0, 1))
        facts.add_row(Text("expected", "green"), Text(str(expected), overflow="fold"))
        facts.add_row(Text("came", "red"), Text(str(came), overflow="fold"))
        self.say(self._indented(facts))
        self.say()

    def broken(self, what: str) -> None:
        """Something went wrong."""
        self.say(Text.assemble(("✘  ", "bold red"), what))

    def say(self, what: RenderableType = "") -> None:
        self._console.print(what, width=self._width, highlight=False)

    def _indented(self, what: RenderableType) -> Padding:
        return Padding(what, (0, 0, 0, INDENT), expand=False)

    def _with_duration(self, heading: Text, duration_s: float) -> Table:
        line = Table.grid(expand=True)
        line.add_column()
        line.add_column(justify="right", no_wrap=True)
        line.add_row(heading, Text(duration(duration_s), "cyan"))
        return line


def duration(seconds: float) -> str:
    """`87 ms`, or `1.3 s` from one second on."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def code(text: str) -> RenderableType:
    """A program, as it was sent."""
    rule = Text("\n".join(["│ "] * len(text.splitlines())), "cyan")
    return _beside(rule, Syntax(text, "python", theme="ansi_dark", background_color="default"))


def output(text: str) -> RenderableType:
    """What a program put out."""
    return _beside(Text("→ ", "cyan"), Text(text.rstrip("\n")))


def columns(described: Sequence[Column]) -> RenderableType:
    """The columns of a table, each with its type; and how many values it lacks."""
    named = [
        Text.assemble(each.name, (f" {each.type}", "cyan"), (f", {each.nulls} empty" if each.nulls else "", "dim"))
        for each in described
    ]
    return Text(" · ").join(named)


def bars(chart: Mapping[str, Any]) -> RenderableType:
    """A bar chart from the data that came with its picture."""
    drawn = Table.grid(padding=(0, 1))
    drawn.add_column(justify="right")
    longest = max(element["value"] for element in chart["elements"])
    for element in reversed(chart["elements"]):
        bar = "█" * max(1, round(BAR_CELLS * element["value"] / longest))
        drawn.add_row(element["label"], Text.assemble((bar, "cyan"), f" {element['value']:,.0f}"))
    return drawn


def _beside(mark: Text, what: RenderableType) -> RenderableType:
    pair = Table.grid()
    pair.add_row(mark, what)
    return pair
