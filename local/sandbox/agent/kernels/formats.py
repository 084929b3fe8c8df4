"""Display formats beside IPython's own: dataframes as `e2b/data`, figures as `e2b/chart`, lists and dicts as JSON.

The names and the two hooks `_repr_e2b_data_` and `_repr_e2b_chart_` are those of E2B's code interpreter.
"""

import datetime
import json
import math
import sys
from collections.abc import Callable
from typing import Any

from IPython.core.formatters import BaseFormatter, JSONFormatter, catch_format_error


def install(shell: Any) -> None:
    """Results of the shell come with these formats from now on."""
    display = shell.display_formatter
    for formatter in (
        ReadFormatter("pandas", "DataFrame", _columns, "data", parent=display),
        ReadFormatter("matplotlib.figure", "Figure", _chart, "chart", parent=display),
        PlainJSONFormatter(parent=display),
    ):
        display.formatters[formatter.format_type] = formatter


class ReadFormatter(BaseFormatter):  # type: ignore[misc]  # untyped
    """`e2b/<kind>` of values: what `read` says of those of one class, and what their own method says of others."""

    _return_type = (dict, str)

    def __init__(self, module: str, name: str, read: Callable[[Any], Any], kind: str, **traits: Any) -> None:
        super().__init__(format_type=f"e2b/{kind}", print_method=f"_repr_e2b_{kind}_", **traits)
        self._module = module
        self._name = name
        self._read = read

    @catch_format_error  # type: ignore[untyped-decorator]
    def __call__(self, value: Any) -> Any:
        if _is_a(value, self._module, self._name):
            return self._read(value)
        return super().__call__(value)


class PlainJSONFormatter(JSONFormatter):  # type: ignore[misc]  # untyped
    """A list or dict as JSON, if JSON can say it."""

    def __call__(self, value: Any) -> Any:
        if isinstance(value, list | dict):
            try:
                return json.loads(json.dumps(_finite(value), default=_number)), {"expanded": True}
            except (TypeError, ValueError, RecursionError):
                return None
        return super().__call__(value)


def _is_a(value: Any, module: str, name: str) -> bool:
    """Whether `value` is of a class that only counts once its module was imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name, ()))


def _columns(frame: Any) -> dict[str, list[Any]]:
    """The values of a dataframe's columns."""
    columns = frame.to_dict(orient="list")
    return {str(name): [_plain(item) for item in items] for name, items in columns.items()}


def _chart(figure: Any) -> dict[str, Any] | None:
    """The chart of a figure; nothing for a kind that cannot be read, since the image is there in any case."""
    from e2b_charts import chart_figure_to_dict  # noqa: PLC0415 - imports Matplotlib

    try:
        return _finite(json.loads(json.dumps(chart_figure_to_dict(figure), default=_plain))) or None
    except Exception:  # noqa: BLE001 - whatever a figure holds, showing its image must not fail
        return None


def _plain(value: Any) -> Any:
    """A cell's value as JSON has it: times in ISO 8601, missing values as null, the rest as text."""
    if hasattr(value, "item") and not isinstance(value, datetime.date):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return None if value != value else value.isoformat()  # noqa: PLR0124 - NaT is the time unlike itself
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return None if type(value).__name__ in ("NAType", "NaTType") else str(value)


def _finite(value: Any) -> Any:
    """The same value with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _number(value: Any) -> Any:
    """A NumPy value as Python's; TypeError for what has no JSON."""
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")
