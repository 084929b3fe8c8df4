"""A chat's context as text that a model reads: short, and only what helps to write code."""

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from sandkeeper.model import HOME, Column, EndReason, FileKind, FileRecord, FileStatus, Table
from sandkeeper.outputs.described import counted
from sandkeeper.services.context import ChatContext, CodeLimits, Installed, Outlook

MAX_CHARS = 4_000
PACKAGE_CHARS = 500
NAME_CHARS = 80

COLUMNS_SHOWN = (40, 15, 5, 0)
"""How many columns of each table are told: the first of these with which the files fit."""

_FIRST = (
    *("pandas", "numpy", "matplotlib", "seaborn", "plotly", "scipy", "scikit-learn", "statsmodels", "openpyxl"),
    *("xlrd", "pyarrow", "duckdb", "polars", "pillow", "opencv-python", "requests", "beautifulsoup4", "sympy"),
    *("python-docx", "nltk", "spacy", "xarray"),
)
"""Packages that are named first where not all fit."""

_REASONS = {
    EndReason.CLOSED: "it was closed",
    EndReason.EXPIRED: "it was not used for long",
    EndReason.FORCED: "an operator ended it",
    EndReason.SANDBOX_LOST: "its sandbox was lost",
    EndReason.RESTARTED: "the kernel was restarted",
    EndReason.KERNEL_DIED: "the kernel ended",
}

_KINDS = {
    FileKind.CSV: "delimited text",
    FileKind.EXCEL: "Excel",
    FileKind.PARQUET: "Parquet",
    FileKind.JSON: "JSON",
    FileKind.JSON_LINES: "JSON Lines",
    FileKind.TEXT: "text",
    FileKind.IMAGE: "image",
    FileKind.PDF: "PDF",
    FileKind.ZIP: "zip archive",
    FileKind.OTHER: "file",
}


_DETAILS = ("encoding", "delimiter", "quote", "escape", "lines", "records", "pages", "width", "height", "entries")
"""What else there is to know of a file, where its kind has it."""

_USUAL = {"encoding": ("utf-8", "ascii"), "delimiter": (",",), "quote": ('"',)}
"""What goes without saying: it is what readers take for granted."""


def briefing(context: ChatContext, max_chars: int = MAX_CHARS) -> str:
    """Returns the context as Markdown, at most this long: where files and packages are cut, it says so."""
    around = [
        f"# Python sandbox\n\nCode runs in IPython on Linux; the working directory is `{HOME}`.",
        f"## State\n\n{state_told(context.outlook)}",
        f"## Packages\n\n{_packages(context.installed)}",
        f"## Output\n\n{_OUTPUT}",
        f"## Limits\n\n{_limits(context.limits)}",
    ]
    room = max_chars - sum(len(part) + 2 for part in around) - len("## Files\n\n")
    return "\n\n".join([*around[:2], f"## Files\n\n{files_told(context.files, room)}", *around[2:]]) + "\n"


_OUTPUT = f"""\
- Shown are printed text, the value of the last expression, and `display(…)`.
- `plt.show()` shows a plot; each figure is one image.
- Print results and summaries (`df.head()`, `df.describe()`), not whole tables.
- A file written below `{HOME}` is offered to the user as a download.
- `input()` does not work."""


def _limits(limits: CodeLimits) -> str:
    return (
        f"Code is stopped after {_seconds(limits.default_ms)}, or after `timeoutMs`, which may be up to"
        f" {_seconds(limits.max_ms)}; variables stay. Printed text ends at {_megabytes(limits.text_bytes)}, and a"
        f" whole reply holds {_megabytes(limits.reply_bytes)}."
    )


def _seconds(ms: int) -> str:
    return f"{ms / 1000:,g} s"


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:g} MB"


# ── State ───────────────────────────────────────────────────────────────────────────────────────────


def state_told(outlook: Outlook) -> str:
    """Returns what there is of earlier calls."""
    why = "" if outlook.reason is None else f" ({_REASONS[outlook.reason]})"
    match outlook.session:
        case "none":
            return "No code has run in this chat yet. Variables, imports and files will stay from call to call."
        case "ended":
            return (
                f"The session of earlier calls has ended{why}: its variables are gone, and so are files that code"
                " has written. The next call begins anew, with the files below. Import and load again."
            )
        case "idle" | "running" | "paused" | "creating":
            pass
        case _:
            assert_never(outlook.session)
    if outlook.has_variables:
        runs = counted(outlook.run_count, "call")
        text = f"A session is live: variables, imports and files of {runs} so far are there, and will stay."
    elif outlook.reason is not None:
        text = f"A session is live, but variables of earlier calls are gone{why}. Import and load again."
    else:
        text = "A session is beginning: there are no variables yet. They will stay from call to call."
    return f"{text} Code is running in it now." if outlook.session == "running" else text


# ── Packages ────────────────────────────────────────────────────────────────────────────────────────


def _packages(installed: Installed) -> str:
    how_known = {
        "sandbox": "Installed:",
        "template": "Installed in sandboxes of this kind:",
        "assumed": "Usually installed (nobody has looked yet):",
    }[installed.source]
    first = {name: place for place, name in enumerate([*installed.added, *_FIRST])}
    names = sorted(installed.versions, key=lambda name: (first.get(name, len(first)), name.lower()))
    listed = _list([" ".join(filter(None, (name, installed.versions[name]))) for name in names], PACKAGE_CHARS)
    return f"{how_known} {listed}. `%pip install NAME` adds others."


def _list(texts: Sequence[str], max_chars: int) -> str:
    """Returns the texts with commas, as many as fit, and how many more there are."""
    shown, left = list[str](), max_chars
    for text in texts:
        left -= len(text) + 2
        if left < 0:
            return ", ".join([*shown, f"and {len(texts) - len(shown)} more"])
        shown.append(text)
    return ", ".join(shown) or "none"


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def files_told(files: Sequence[FileRecord], room: int) -> str:
    """Returns a line for each file and table: with fewer columns, and then fewer files, where they do not fit."""
    if not files:
        return "There are none."
    for columns in COLUMNS_SHOWN:
        text = "\n".join(_file(file, columns) for file in files)
        if len(text) <= room:
            return text
    lines, left = list[str](), room - len(_more(len(files)))
    for file in files:
        line = _file(file, 0, with_tables=False)
        left -= len(line) + 1
        if left < 0:
            return "\n".join([*lines, _more(len(files) - len(lines))])
        lines.append(line)
    return "\n".join(lines)


def _more(count: int) -> str:
    return f"- and {count} more: see `os.listdir({HOME!r})`"


def _file(file: FileRecord, columns: int, *, with_tables: bool = True) -> str:
    about = f"- `{file.path}`: "
    match file.status:
        case FileStatus.PENDING:
            return f"{about}not there yet; it is being uploaded or read"
        case FileStatus.FAILED:
            return f"{about}cannot be used ({_word(file.reason or 'unreadable', 200)})"
        case FileStatus.READY:
            pass
        case _:
            assert_never(file.status)
    about += ", ".join([_KINDS[file.kind or FileKind.OTHER], counted(file.size_bytes, "byte"), *_details(file)])
    if not file.tables:
        return about
    if not with_tables:
        return f"{about}, {counted(len(file.tables), 'table')}"
    if len(file.tables) == 1 and file.tables[0].name is None:
        return f"{about}; {_table(file.tables[0], columns)}"
    tables = [f"  - {_name(table.name or '')}: {_table(table, columns)}" for table in file.tables]
    return "\n".join([about, *tables])


def _details(file: FileRecord) -> Iterator[str]:
    for name in _DETAILS:
        match file.details.get(name):
            case str(text) if text not in _USUAL.get(name, ()):
                yield f"{name} {text[:NAME_CHARS]!r}"
            case int(number):
                yield f"{name} {number:,}"


def _table(table: Table, columns: int) -> str:
    count = len(table.columns)
    size = f"{counted(table.row_count, 'row')} × {counted(count, 'column')}"
    if not columns:
        return size
    told = [*map(_column, table.columns[:columns])]
    return f"{size}: {', '.join([*told, *_rest(count - len(told))])}"


def _rest(count: int) -> Iterable[str]:
    return [f"and {count} more"] if count > 0 else []


def _column(column: Column) -> str:
    nulls = f", {column.nulls:,} empty" if column.nulls else ""
    return f"{_name(column.name)} ({column.type}{nulls})"


def _name(name: str) -> str:
    """Returns a name as code can take it: bare, or in quotes where it is not plain."""
    if len(name) > NAME_CHARS:
        return f"{name[:NAME_CHARS]!r}…"
    return name if name.isidentifier() else repr(name)


def _word(text: str, max_chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= max_chars else f"{line[: max_chars - 1]}…"
