"""What code in a sandbox can see and use of the host and of other sandboxes: nothing but the runtime."""

import json
from pathlib import Path

import httpx
import pytest
from e2b import CommandExitException
from e2b_code_interpreter import Sandbox

from tests.sandbox_server import Server


class TestIsolation:
    def test_sandboxes_see_neither_each_others_files_nor_processes(self, sandboxes: Server) -> None:
        one, two = Sandbox.create(timeout=60), Sandbox.create(timeout=60)
        one.files.write("/home/user/secret", "x")
        one.files.write("/tmp/secret", "x")
        one.commands.run("sleep 1234", background=True, timeout=0)
        assert two.commands.run("ls -a /tmp; ls ~").stdout.count("secret") == 0
        assert "1234" not in two.commands.run("cat /proc/*/cmdline | tr '\\0' ' '").stdout

    def test_nothing_of_the_host_is_seen_but_the_runtime(self, shared: Sandbox, tmp_path: Path) -> None:
        repository = Path(__file__).parents[2]
        canary = tmp_path / "canary"
        canary.write_text("of the host")
        for path in (repository, canary, *tmp_path.parents[:-2], Path("/var/log"), Path("/sys")):
            assert path.exists()
            assert not shared.files.exists(str(path))
        assert shared.commands.run("ls -d /home/*").stdout == "/home/user\n"
        assert shared.commands.run("find / -xdev -name canary 2>/dev/null; true").stdout == ""
        assert str(repository) not in shared.commands.run("env").stdout
        for write in ("touch /x", "touch /usr/x", "touch /opt/site/x", "touch /etc/x"):
            with pytest.raises(CommandExitException):
                shared.commands.run(write)

    def test_the_kernels_settings_cannot_be_changed_nor_new_user_namespaces_be_made(self, shared: Sandbox) -> None:
        """A server that runs as root shares its user id with sandboxes, which opens /proc/sys unless closed."""
        writable = "find /proc -path '/proc/[0-9]*' -prune -o -type f -writable -print"
        assert shared.commands.run(f"{writable} 2>/dev/null; true").stdout == ""
        with pytest.raises(CommandExitException):
            shared.commands.run("unshare --user true")
        assert shared.commands.run("ls /etc/ssl/private 2>/dev/null; true").stdout == ""

    def test_there_is_no_network(self, shared: Sandbox, sandboxes: Server) -> None:
        url = json.dumps(sandboxes.url)
        error = shared.run_code(f"import urllib.request; urllib.request.urlopen({url}, timeout=5)").error
        assert error
        assert error.name == "URLError"
        assert httpx.get(f"{sandboxes.url}/health").status_code == 204  # where it is not cut off

    def test_a_program_over_its_memory_gets_an_error_and_the_sandbox_lives_on(self, shared: Sandbox) -> None:
        error = shared.run_code("x = bytearray(3 * 1024**3)").error
        assert error
        assert error.name == "MemoryError"
        assert shared.run_code("1").text == "1"

    def test_processes_are_limited(self, sandbox: Sandbox) -> None:
        code = (
            "import subprocess\n"
            "try:\n"
            "    for count in range(1000): subprocess.Popen(['sleep', '600'])\n"
            "except OSError: pass\n"
            "count"
        )
        assert int(sandbox.run_code(code).text or 0) < 512
