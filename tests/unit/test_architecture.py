"""Which way the arrows point, and what each function does without."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "shared"
PACKAGE = SHARED / "sandkeeper"
FUNCTIONS = ROOT / "functions"
CLIENT = ROOT / "clients" / "python" / "sandkeeper_client"

INNER = [
    PACKAGE / "model.py",
    PACKAGE / "errors.py",
    PACKAGE / "notebooks.py",
    PACKAGE / "prompts.py",
    *sorted((PACKAGE / "ports").glob("*.py")),
    *sorted((PACKAGE / "services").glob("*.py")),
]
OUTSIDE = (
    "boto3",
    "botocore",
    "e2b",
    "e2b_code_interpreter",
    "fastapi",
    "starlette",
    "httpx",
    "pydantic",
    "aws_lambda_powertools",
    "mangum",
    "mcp",
    "mcp_types",
    "jwt",
    "duckdb",
    "python_calamine",
    "charset_normalizer",
)
OUTER = ("adapters", "http", "mcp", "wiring", "settings", "telemetry")
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(module: Path) -> Iterator[str]:
    """Yields what the module imports, anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are from sandkeeper…"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reaches(module: Path, package: str) -> list[str]:
    """Returns which of the module's imports lie in the package."""
    return sorted({name for name in imports(module) if name == package or name.startswith(f"{package}.")})


def name_of(path: Path) -> str:
    """Returns the path as it is known in this project."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", INNER, ids=name_of)
def test_the_inside_knows_nothing_of_the_outside(module: Path) -> None:
    outer = [*OUTSIDE, *(f"sandkeeper.{part}" for part in OUTER)]

    assert [name for package in outer for name in reaches(module, package)] == []


@pytest.mark.parametrize("module", [PACKAGE / "model.py", PACKAGE / "errors.py"], ids=name_of)
def test_values_and_errors_need_no_other_module_of_ours(module: Path) -> None:
    assert reaches(module, "sandkeeper") == []


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_only_the_wiring_and_adapters_import_adapters(module: Path) -> None:
    if module == PACKAGE / "wiring.py" or PACKAGE / "adapters" in module.parents:
        return
    assert reaches(module, "sandkeeper.adapters") == []


@pytest.mark.parametrize("module", sorted((PACKAGE / "adapters").rglob("*.py")), ids=name_of)
def test_adapters_know_no_use_case_and_no_http(module: Path) -> None:
    assert [
        name
        for part in ("services", "http", "mcp", "wiring", "settings")
        for name in reaches(module, f"sandkeeper.{part}")
    ] == []


@pytest.mark.parametrize("module", sorted((PACKAGE / "http").glob("*.py")), ids=name_of)
def test_the_api_knows_nothing_of_mcp(module: Path) -> None:
    assert [name for package in ("mcp", "mcp_types", "sandkeeper.mcp") for name in reaches(module, package)] == []


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_the_environment_is_read_by_the_wiring_alone(module: Path) -> None:
    reads = "os.environ" in module.read_text() or "getenv" in module.read_text()

    programs = {PACKAGE / "wiring.py", *(PACKAGE / "runner" / name for name in ("__main__.py", "bootstrap.py"))}
    is_program = module in programs
    assert reads == is_program


@pytest.mark.parametrize("module", [*MODULES, *sorted(FUNCTIONS.rglob("*.py"))], ids=name_of)
def test_no_module_knows_whether_it_runs_locally(module: Path) -> None:
    assert reaches(module, "local") == []
    assert "shared.sandkeeper" not in module.read_text()


@pytest.mark.parametrize("module", sorted(CLIENT.glob("*.py")), ids=name_of)
def test_the_client_needs_nothing_of_ours_and_little_else(module: Path) -> None:
    """It is installed where nothing else of this project is."""
    needed = {name.partition(".")[0] for name in imports(module)} - sys.stdlib_module_names
    assert needed <= {"sandkeeper_client", "anyio", "httpx", "httpx_sse"}


def test_a_function_is_one_file_of_a_few_lines() -> None:
    for folder in sorted(path for path in FUNCTIONS.iterdir() if path.is_dir() and path.name != "__pycache__"):
        (file,) = (path for path in folder.iterdir() if path.name != "__pycache__")
        assert len(file.read_text().splitlines()) <= 14, name_of(file)


def loaded_by(statement: str) -> set[str]:
    """Returns the top-level packages that a fresh interpreter has loaded after the statement."""
    script = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(SHARED), "PATH": "", "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def of_function(name: str) -> str:
    """Returns a statement that imports the function as Lambda does."""
    return f"import runpy; runpy.run_path({str(FUNCTIONS / name / 'app.py')!r})"


def wired(kind: str, service: str) -> str:
    """Returns a statement that makes the service as the function does at its first event."""
    return f"""
from sandkeeper.settings import {kind}Settings
from sandkeeper.wiring import {kind}Wiring
made = {kind}Wiring()
vars(made)["settings"] = {kind}Settings.model_construct(
    table_name="t", bucket_name="b", stack_name="s", e2b_api_key="k", e2b_session_timeout=60_000
)
made.{service}
"""


AWS = {"boto3", "botocore", "s3transfer"}
E2B = {"e2b", "e2b_code_interpreter", "httpx", "pyqwest", "connectrpc", "protobuf"}
JWT = {"jwt", "cryptography"}
HTTP_SERVER = {"fastapi", "starlette", "mangum"}
MCP = {"mcp", "mcp_types", "httpx2", "sse_starlette"}
READERS = {"duckdb", "_duckdb", "python_calamine", "charset_normalizer"}
"""What the process that reads files loads, and nobody else."""


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        (of_function("file_ingest"), {*HTTP_SERVER, *AWS, *E2B, *JWT, *MCP}),
        (of_function("cleanup"), {*HTTP_SERVER, *AWS, *E2B, *JWT, *MCP}),
        (of_function("api"), {*AWS, *E2B, *JWT, *READERS, *MCP}),
        (of_function("mcp"), {"fastapi", *AWS, *E2B, *READERS}),
        (wired("Ingest", "ingest"), {*HTTP_SERVER, *READERS, *E2B, *JWT, *MCP}),
        (wired("Cleanup", "cleanup"), {*HTTP_SERVER, *READERS, *JWT, *MCP}),
        (wired("Api", "files"), {*READERS, *JWT, *MCP}),
        (wired("Api", "execute"), {*READERS, *JWT, *MCP, "e2b_code_interpreter"}),
        (wired("Mcp", "execute"), {"fastapi", *READERS, *JWT, "e2b_code_interpreter"}),
    ],
    ids=[
        "file_ingest, imported",
        "cleanup, imported",
        "api, imported",
        "mcp, imported",
        "file_ingest, wired",
        "cleanup, wired",
        "api, wired for files",
        "api, wired for runs",
        "mcp, wired for runs",
    ],
)
def test_a_function_loads_nothing_that_it_does_without(statement: str, without: set[str]) -> None:
    assert loaded_by(statement) & without == set()


def test_the_process_that_reads_files_loads_what_the_file_needs() -> None:
    """It starts for every upload, most of which are no workbooks."""
    read = "import sandkeeper.adapters.reading.__main__, sandkeeper.adapters.reading.text"
    assert loaded_by(read) & {*READERS, "pydantic", "boto3"} == set()


@pytest.mark.parametrize("module", sorted((PACKAGE / "runner").glob("*.py")), ids=name_of)
def test_the_runner_needs_nothing_that_a_sandbox_may_not_have(module: Path) -> None:
    ast.parse(module.read_text(), feature_version=(3, 10))
    own = "sandkeeper.runner"
    foreign = {name for name in imports(module) if name != own and not name.startswith(f"{own}.")}
    assert {name.partition(".")[0] for name in foreign} <= sys.stdlib_module_names


def test_the_runner_imports_little() -> None:
    """Each of these would make a chat's first run wait longer."""
    code = "import sys, sandkeeper.runner.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(SHARED)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"typing", "pathlib", "http", "dataclasses", "contextlib", "asyncio"} & set(done.stdout.split())
