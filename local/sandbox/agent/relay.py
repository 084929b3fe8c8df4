"""The relay: reaches any port that a program opens inside the sandbox.

A client of the Unix socket writes `<port>\\n`, reads `ok\\n` or `refused\\n`, and then talks to that port.
"""

import asyncio
import contextlib

CHUNK_BYTES = 64 * 1024


async def serve_client(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    """Splices one client to the port it named, until both directions are done."""
    with contextlib.closing(to_client), contextlib.suppress(ConnectionError):
        line = await client.readline()
        try:
            program, to_program = await _connect(int(line))
        except (ValueError, OverflowError, OSError):
            to_client.write(b"refused\n")
            await to_client.drain()
            return
        with contextlib.closing(to_program):
            to_client.write(b"ok\n")
            await _splice(client, to_client, program, to_program)


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return await asyncio.open_connection("::1", port)


async def _splice(
    client: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
    program: asyncio.StreamReader,
    to_program: asyncio.StreamWriter,
) -> None:
    """Copies both ways; a broken direction ends both, a finished one lets the other go on."""
    with contextlib.suppress(ConnectionError, ExceptionGroup):
        async with asyncio.TaskGroup() as directions:
            directions.create_task(_copy(client, to_program))
            directions.create_task(_copy(program, to_client))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        target.write(chunk)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()
