"""What `sam build` made, run as Lambda runs it, without Docker and without AWS.

The runtime interface emulator, a binary inside the SAM CLI, offers Lambda's invoke API and starts the runtime's
own client on a built function. The interpreter sees the function, its layers and that client, and nothing of
this machine's installed packages: what a layer lacks is missing here too.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layers.build import compile_bytecode, install, interpreters, pins_for
from local import sam
from local.project import ROOT
from local.sam import MACHINE, SAM
from local.template import load_template

TEMPLATE_PYTHON = "3.13"
REGION = "us-east-1"
RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
READY_WITHIN_S = 20
INVOKED_WITHIN_S = 60


class FunctionError(Exception):
    """The handler raised, or did not come up; the message is what Lambda would answer, and the function's log."""


@dataclass(frozen=True)
class Built:
    """A build: its template, the interpreter of the version that it is for, and the runtime's client."""

    template: Path
    python: Path
    client: Path

    def resource(self, logical_id: str) -> dict[str, Any]:
        """Returns a resource of the built template."""
        resource: dict[str, Any] = load_template(self.template.read_text())["Resources"][logical_id]
        return resource

    def layer(self, logical_id: str) -> Path:
        """Returns the built layer's `python/` folder, which Lambda shows as /opt/python."""
        return self._path(self.resource(logical_id)["Properties"]["ContentUri"]) / "python"

    def code(self, logical_id: str) -> Path:
        """Returns the function's folder, which Lambda shows as /var/task."""
        return self._path(self.resource(logical_id)["Properties"]["CodeUri"])

    def python_path(self, logical_id: str) -> list[Path]:
        """Returns where the function's imports are looked for: its code, its layers, the runtime's client."""
        layers = self.resource(logical_id)["Properties"].get("Layers", [])
        return [self.code(logical_id), *(self.layer(layer["Ref"]) for layer in layers), self.client]

    def settings(self, logical_id: str, environment: Mapping[str, str]) -> dict[str, str]:
        """Returns the variables that the template gives the function, with the values of this environment."""
        named = self.resource(logical_id)["Properties"]["Environment"]["Variables"]
        return {
            name: value
            for name, value in environment.items()
            if name in named or name.startswith(("AWS_", "POWERTOOLS_"))
        }

    def _path(self, uri: str) -> Path:
        return (self.template.parent / uri).resolve()


def sam_build(folder: Path, template: Path = ROOT / "template.yaml") -> Built:
    """Runs `sam build` into `folder`, for the template's Python where it runs here, else for this one."""
    version, python = _python()
    environment = {
        **os.environ,
        "AWS_DEFAULT_REGION": REGION,
        **sam.build_environment(version, Path(sys.executable)),
    }
    command = sam.build_command(folder / "build", sam.no_config(folder), template)
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    client = folder / "client"
    _install_runtime_client(client, version)
    return Built(folder / "build" / "template.yaml", python, client)


def _python() -> tuple[str, Path]:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in (TEMPLATE_PYTHON, here):
        for found in interpreters(version):
            return version, Path(found)
    raise LookupError(f"no interpreter of Python {TEMPLATE_PYTHON} or {here} runs here")


def _install_runtime_client(target: Path, python: str) -> None:
    pins = pins_for((ROOT / "requirements" / "dev.txt").read_text(), python, MACHINE, set())
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pin for pin in pins if pin.split("==")[0] in RUNTIME_CLIENT))
        file.flush()
        install(Path(file.name), target, python, MACHINE, without=set())
    compile_bytecode(target, python, keep_sources=True)  # as Lambda has its own


@dataclass(frozen=True)
class RunningFunction:
    """A function that answers invocations."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def invoke(self, event: object) -> Any:
        """Returns what the handler returns. Raises `FunctionError` for what it raises."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=INVOKED_WITHIN_S)
        try:
            connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
            answer = connection.getresponse().read()
        finally:
            connection.close()
        try:
            value = json.loads(answer)
        except ValueError:
            raise FunctionError(f"{answer.decode(errors='replace')}\n{self.log.read_text()}") from None
        if isinstance(value, dict) and "errorType" in value:
            raise FunctionError(f"{json.dumps(value, indent=1)}\n{self.log.read_text()}")
        return value


@contextmanager
def running(built: Built, logical_id: str, environment: Mapping[str, str]) -> Iterator[RunningFunction]:
    """Has the built function running in the block, with these variables and Lambda's own, and nothing else."""
    emulator = next(SAM.parent.parent.glob(f"lib/python3*/site-packages/samcli/local/rapid/*{_emulator_name()}"))
    port, runtime_port = _free_ports(2)
    command = [
        str(emulator),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
        *(str(built.python), "-S", "-B", "-m", "awslambdaric", "app.handler"),
    ]
    path = built.python_path(logical_id)
    properties = built.resource(logical_id)["Properties"]
    folder = Path(tempfile.mkdtemp(prefix="sk-lambda-"))
    log = folder / "log"
    lambda_environment = {
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(properties["MemorySize"]),
        "AWS_LAMBDA_FUNCTION_NAME": logical_id,
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(properties["Timeout"]),
        "AWS_REGION": REGION,
        "HOME": str(folder),
        "LAMBDA_TASK_ROOT": str(path[0]),
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        **environment,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=lambda_environment,
            cwd=path[0],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await_port(process, port, log)
        yield RunningFunction(process, port, log)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder)


def _emulator_name() -> str:
    return "arm64" if MACHINE == "aarch64" else MACHINE


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _await_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise FunctionError(f"the runtime interface emulator does not listen on {port}\n{log.read_text()}")
