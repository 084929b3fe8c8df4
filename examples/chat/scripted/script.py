"""The script: what it answers to what it is asked. It knows no figure; it says what came of its code.

Asked for an average it looks at the file, takes the column's name from the question, which may well be wrong, is
told so, corrects it by what it has seen, and answers. Asked for a plot it draws one.
"""

import json
import re

from examples.chat.models import Call, Turn
from examples.chat.scripted.wires import Request

TOOL = "run_python"
AVERAGE = re.compile(r"\b(?:average|mean)\s+(?:of\s+)?(?:the\s+)?(\w+)", re.IGNORECASE)
PLOT = re.compile(r"\b(?:plot|draw|chart|histogram)\b", re.IGNORECASE)
TABLE = re.compile(r"/home/user/([^`\"\n]+?\.csv)", re.IGNORECASE)
"""A file that the context tells of; code finds it by its name, here and wherever else the notebook runs."""
FIGURE = re.compile(r"^Average (?P<column>.+): (?P<figure>[-\d.,]*\d)$", re.MULTILINE)
MOST_RESULTS = 3

LOOK = "import pandas as pd\n\ndf = pd.read_csv({path!r})\nprint(df.shape)\nprint(df.dtypes)"
MEAN = 'average = df[{column!r}].mean()\nprint({label!r}, f"{{average:,.2f}}")'
DRAW = """\
import matplotlib.pyplot as plt

axes = df.select_dtypes("number").hist(figsize=(8, 4), color="#2a9d8f")
plt.tight_layout()
plt.show()"""

KNOWN = (
    "I am a script and no model. I can answer “What is the average salary?”, or of another column of the"
    " uploaded CSV file, and “Draw a plot”."
)


def reply(request: Request) -> Turn:
    """Returns the turn that comes next."""
    results = request.results
    average, plot = AVERAGE.search(request.question), PLOT.search(request.question)
    table = TABLE.search(request.system)
    if TOOL not in request.tools or table is None or not (average or plot):
        return Turn(text=KNOWN)
    if not results:
        return _run("I look at the file first.", LOOK.format(path=table[1]), 0)
    if len(results) > MOST_RESULTS or results[0].is_error:
        return Turn(text="I could not read the file, or not what I was asked for.")
    if average:
        return _averaged(request, average[1])
    if len(results) == 1:
        return _run("I draw its numbers.", DRAW, 1)
    return Turn(text=f"Here is the plot. I was sent {results[-1].images} picture(s) of it.")


def _averaged(request: Request, named: str) -> Turn:
    """Returns the turn on the way to an average, of a column as the question calls it."""
    done = len(request.results)
    if done == 1:
        return _run("Now the average.", _mean(named), 1)
    if request.results[-1].is_error:
        column = _column_like(named, request.results[0].text)
        if column is None or done == MOST_RESULTS:
            return Turn(text=f"The file has no column {named!r} that has an average.")
        return _run(f"The column is called {column!r}: I correct that.", _mean(column), done)
    found = FIGURE.search(request.results[-1].text)
    if found is None:
        return Turn(text="My code has not printed what I have asked it for.")
    return Turn(text=f"The average {found['column'].lower()} is {found['figure']}.")


def _mean(column: str) -> str:
    return MEAN.format(column=column, label=f"Average {column}:")


def _column_like(named: str, seen: str) -> str | None:
    """Returns the column that a listing of types has under such a name."""
    columns = [line.split()[0] for line in seen.splitlines() if len(line.split()) == 2]
    return next((column for column in columns if column.lower() == named.lower()), None)


def _run(text: str, code: str, number: int) -> Turn:
    return Turn(text=text, calls=[Call(f"call_{number}", TOOL, json.dumps({"code": code}))])
