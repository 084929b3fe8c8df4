"""Where things lie in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "local" / "data" / "employee_data.csv"
WORKBOOK = ROOT / "local" / "data" / "departments.xlsx"


def shown(path: Path) -> str:
    """A path as people read it: from the current folder, where it lies in there."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
