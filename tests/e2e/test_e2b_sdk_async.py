"""The unmodified E2B SDK, asynchronous, against the local sandbox server."""

import asyncio

import httpx
import pytest
from e2b import (
    AsyncCommandHandle,
    CommandExitException,
    FilesystemEvent,
    PtySize,
    SandboxNotFoundException,
    SandboxNotRunningException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)
from e2b_code_interpreter import AsyncSandbox

from tests.sandbox_server import Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def create(server: Server, timeout: int = 120) -> AsyncSandbox:
    return await AsyncSandbox.create(timeout=timeout, **server.sdk)


async def test_a_sandbox_lives_through_pause_and_connect_until_it_is_killed(sandboxes: Server) -> None:
    sandbox = await create(sandboxes)
    await sandbox.run_code("x = 41")
    assert await sandbox.pause()
    assert (await sandbox.get_info()).state is SandboxState.PAUSED
    resumed = await AsyncSandbox.connect(sandbox.sandbox_id, timeout=120)
    assert (await resumed.run_code("x + 1")).text == "42"
    await resumed.set_timeout(60)
    assert await resumed.kill()
    assert not await resumed.is_running()
    with pytest.raises(SandboxNotFoundException):
        await AsyncSandbox.connect(sandbox.sandbox_id, timeout=10)
    with pytest.raises(SandboxNotRunningException):
        await resumed.files.read("x")


async def test_lists_are_filtered_and_paged(sandboxes: Server) -> None:
    made = [(await AsyncSandbox.create(timeout=60, metadata={"list": "async"})).sandbox_id for _ in range(2)]
    pages = AsyncSandbox.list(SandboxQuery(metadata={"list": "async"}), limit=1)
    found = [(await pages.next_items())[0].sandbox_id]
    assert pages.has_next
    found += [(await pages.next_items())[0].sandbox_id]
    assert not pages.has_next
    assert found == made[::-1]


async def test_four_creates_with_one_key_at_the_same_time_make_one_sandbox(sandboxes: Server) -> None:
    creates = [AsyncSandbox.create(timeout=60, idempotency_key="async-1") for _ in range(4)]
    assert len({sandbox.sandbox_id for sandbox in await asyncio.gather(*creates)}) == 1


async def test_files_are_written_read_watched_and_shared_by_url(sandboxes: Server) -> None:
    sandbox = await create(sandboxes)
    changed = asyncio.Event()

    async def on_event(event: FilesystemEvent) -> None:
        if event.name == "new.bin":
            changed.set()

    watch = await sandbox.files.watch_dir("/home/user", on_event)
    content = bytes(range(256)) * 1000
    await sandbox.files.write("new.bin", content)
    async with asyncio.timeout(20):
        await changed.wait()
    await watch.stop()
    assert bytes(await sandbox.files.read("new.bin", format="bytes")) == content
    async with httpx.AsyncClient() as client:
        assert (await client.get(sandbox.download_url("new.bin"))).content == content


async def test_commands_run_stream_take_input_and_are_killed(sandboxes: Server) -> None:
    sandbox = await create(sandboxes)
    assert (await sandbox.commands.run("echo hi")).stdout == "hi\n"
    came: asyncio.Queue[str] = asyncio.Queue()
    handle: AsyncCommandHandle = await sandbox.commands.run(
        "read line; echo got $line; sleep 100", background=True, stdin=True, on_stdout=came.put_nowait
    )
    await sandbox.commands.send_stdin(handle.pid, "x\n")
    async with asyncio.timeout(20):
        assert await came.get() == "got x\n"
    assert await handle.kill()
    with pytest.raises(CommandExitException):
        await handle.wait()


async def test_a_terminal_is_interactive(sandboxes: Server) -> None:
    sandbox = await create(sandboxes)
    output = bytearray()
    handle = await sandbox.pty.create(PtySize(rows=24, cols=80), on_data=output.extend)
    await sandbox.pty.send_stdin(handle.pid, b"stty size; exit 0\n")
    await handle.wait()
    assert b"24 80" in output


async def test_runs_in_two_contexts_go_on_at_the_same_time(sandboxes: Server) -> None:
    """Each waits for a file that the other one makes, which they cannot do one after the other."""
    sandbox = await create(sandboxes)
    other = await sandbox.create_code_context()

    def code(makes: str, awaits: str) -> str:
        return (
            f"import os, time\nopen('{makes}', 'w').close()\n"
            f"while not os.path.exists('{awaits}'): time.sleep(0.01)\n'met'"
        )

    one, two = await asyncio.gather(
        sandbox.run_code(code("a", "b"), timeout=20),
        sandbox.run_code(code("b", "a"), context=other, timeout=20),
    )
    assert (one.text, two.text) == ("met", "met")


async def test_a_run_over_its_time_is_interrupted_and_the_next_one_runs(sandboxes: Server) -> None:
    sandbox = await create(sandboxes)
    with pytest.raises(TimeoutException):
        await sandbox.run_code("import time\nwhile True: time.sleep(0.01)", timeout=1)
    assert (await sandbox.run_code("1 + 1", timeout=10)).text == "2"


async def test_a_cancelled_run_is_interrupted(sandboxes: Server) -> None:
    sandbox = await create(sandboxes)
    began = asyncio.Event()

    async def on_stdout(_: object) -> None:
        began.set()

    run = asyncio.create_task(
        sandbox.run_code("import time\nprint(1, flush=True)\ntime.sleep(100)", on_stdout=on_stdout)
    )
    await began.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await sandbox.run_code("1 + 1", timeout=10)).text == "2"
