"""How a conversation looks on a terminal: what the model says, the code, what it shows. None of it is trusted."""

import re
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

import sandkeeper_client as client
from examples.chat.models import Call

CONTROLS = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]")
"""What tells a terminal to do something, instead of showing something."""


@dataclass
class Screen:
    """Shows a conversation."""

    console: Console
    is_saying: bool = False

    def said(self, text: str) -> None:
        """A piece of what the model says."""
        self._print(Text(plain(text)), end="")
        self.is_saying = True

    def began(self, code: str) -> None:
        """The code that runs now."""
        self.line()
        shown = Syntax(plain(code), "python", theme="ansi_dark", background_color="default", word_wrap=True)
        self.console.print(Padding(shown, (1, 0, 1, 2)))

    def shown(self, output: client.Output) -> None:
        """What the code shows: its text, and the names of the rest."""
        for result in output.results:
            if result.type == "text":
                self._print(Text(plain(str(result.content)), "cyan"), end="")
            elif result.type != "error":
                self._print(Text(f"[{result.type}: {result.mime_type}]", "cyan"))

    def ran(self, run: client.Run) -> None:
        """What came of the code."""
        if run.error is not None:
            self._print(Text(f"✘ {plain(run.error)}", "red"))
        elif not run.results:
            self._print(Text("✔", "green"))
        self.line()

    def refused(self, call: Call, reason: str) -> None:
        """A call that was not made."""
        self.line()
        self._print(Text(f"✘ {plain(call.name)} was not run: {plain(reason)}", "red"))

    def failed(self, reason: str) -> None:
        """Why there is no answer."""
        self.line()
        self._print(Text(f"✘ {plain(reason)}", "bold red"))

    def note(self, text: str) -> None:
        """A word of the program's own."""
        self.line()
        self._print(Text(text, "dim"))

    def question(self, text: str) -> None:
        """What is asked."""
        self.line()
        self._print(Text(f"> {plain(text)}", "bold"))

    def line(self) -> None:
        """Ends the line in which the model speaks."""
        if self.is_saying:
            self.console.print()
        self.is_saying = False

    def _print(self, text: Text, end: str = "\n") -> None:
        self.console.print(text, end=end, soft_wrap=True, highlight=False)


def plain(text: str) -> str:
    """Returns the text without what tells a terminal to do something."""
    return CONTROLS.sub("�", text.replace("\r\n", "\n"))
