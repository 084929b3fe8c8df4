"""The relay: opens connections to any port that a program listens at inside the sandbox.

A client of the Unix socket writes `<port>\\n`, and reads `refused\\n`, or `ok\\n` and with it the connection
itself, as a file descriptor: what is said on it then takes no way through the agent.
"""

import asyncio
import contextlib
import os
import socket


async def serve_client(loopback: str, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    """Hands one client the connection that it asks for."""
    with contextlib.closing(to_client), contextlib.suppress(ConnectionError):
        line = await client.readline()
        try:
            program = await _connect(loopback, int(line))
        except (ValueError, OverflowError, OSError):
            to_client.write(b"refused\n")
            await to_client.drain()
            return
        own = to_client.get_extra_info("socket").fileno()
        with program, socket.socket(fileno=os.dup(own)) as to_hand_over:
            socket.send_fds(to_hand_over, [b"ok\n"], [program.fileno()])


async def _connect(loopback: str, port: int) -> socket.socket:
    """A connection to the port, at the sandbox's own address first."""
    for host in dict.fromkeys([loopback, "127.0.0.1"]):
        with contextlib.suppress(OSError):
            return await _connected(socket.AF_INET, host, port)
    return await _connected(socket.AF_INET6, "::1", port)


async def _connected(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    connection = socket.socket(family)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException:
        connection.close()
        raise
    return connection
