"""`pip install` in a sandbox, with packages made here: there is no network."""

import io
import zipfile

import pytest
from e2b import CommandExitException
from e2b_code_interpreter import Sandbox

OFFLINE = "--no-index --find-links=/home/user/wheels"


def wheel(name: str) -> bytes:
    """Returns a package of one module that says where it comes from."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "origin = 'the wheel'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in files)}.items():
            archive.writestr(path, text)
    return packed.getvalue()


def install(sandbox: Sandbox, name: str, how: str) -> None:
    sandbox.files.write(f"wheels/{name}-1.0-py3-none-any.whl", wheel(name))
    if how == "run":
        arguments = ["-m", "pip", "install", *OFFLINE.split(), name]
        code = f"import subprocess, sys\nsubprocess.run([sys.executable, *{arguments}], check=True)"
        assert not sandbox.run_code(code).error
    else:
        assert "Successfully installed" in sandbox.commands.run(f"{how} install {OFFLINE} {name}").stdout


@pytest.mark.parametrize("how", ["pip", "python -m pip", "run"])
def test_an_installed_package_is_there_for_the_running_kernel_a_new_one_and_commands(
    shared: Sandbox, how: str
) -> None:
    name = "tiny_" + how.replace(" ", "_").replace("-", "")
    assert shared.run_code(f"import {name}").error
    install(shared, name, how)
    code = f"import importlib; importlib.invalidate_caches(); import {name}; {name}.origin"
    assert shared.run_code(code).text == "the wheel"
    context = shared.create_code_context()
    shared.restart_code_context(context)
    assert shared.run_code(f"import {name}; {name}.origin", context=context).text == "the wheel"
    shared.remove_code_context(context)
    assert shared.commands.run(f"python -c 'import {name}; print({name}.origin)'").stdout == "the wheel\n"


def test_a_virtual_environment_has_packages_of_its_own(shared: Sandbox) -> None:
    shared.files.write("wheels/tiny_venv-1.0-py3-none-any.whl", wheel("tiny_venv"))
    shared.commands.run(f"python -m venv /tmp/v && /tmp/v/bin/pip install {OFFLINE} tiny_venv")
    assert shared.commands.run("/tmp/v/bin/python -c 'import tiny_venv'").exit_code == 0
    assert shared.run_code("import tiny_venv").error


def test_without_network_pip_says_what_it_could_not_find(shared: Sandbox) -> None:
    with pytest.raises(CommandExitException, match="No matching distribution found for tiny-nowhere"):
        shared.commands.run("pip install --retries 0 tiny-nowhere")
