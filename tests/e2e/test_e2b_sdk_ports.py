"""Ports that programs in a sandbox open, reached through the server."""

import socket
from urllib.parse import urlsplit

import httpx
from e2b_code_interpreter import Sandbox

from tests.sandbox_server import Server, eventually


class TestPorts:
    def test_a_users_server_is_reached_by_its_host_name(self, shared: Sandbox, sandboxes: Server) -> None:
        shared.files.write("index.html", "served")
        shared.commands.run("python -m http.server 8080", background=True, timeout=0)
        headers = {"Host": shared.get_host(8080)}
        eventually(lambda: httpx.get(f"{sandboxes.url}/index.html", headers=headers).status_code == 200)
        assert httpx.get(f"{sandboxes.url}/index.html", headers=headers).text == "served"

    def test_a_closed_port_says_so(self, shared: Sandbox, sandboxes: Server) -> None:
        reply = httpx.get(sandboxes.url, headers={"Host": shared.get_host(8081)})
        assert reply.status_code == 502
        assert "port is not open" in reply.json()["message"]

    def test_a_websocket_passes_through(self, shared: Sandbox, sandboxes: Server) -> None:
        code = (
            "import socket, threading\n"
            "server = socket.create_server(('127.0.0.1', 8082))\n"
            "def serve():\n"
            "    c, _ = server.accept()\n"
            "    c.recv(65536)\n"
            "    c.sendall(b'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\n"
            "Upgrade: echo\\r\\n\\r\\n')\n"
            "    while data := c.recv(100): c.sendall(data.upper())\n"
            "threading.Thread(target=serve, daemon=True).start()"
        )
        assert not shared.run_code(code).error
        address = urlsplit(sandboxes.url)
        with socket.create_connection((str(address.hostname), address.port or 0), timeout=10) as client:
            host = shared.get_host(8082)
            client.sendall(
                f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".encode()
            )
            assert b"101" in client.recv(1000)
            client.sendall(b"hello")
            assert client.recv(1000) == b"HELLO"

    def test_private_traffic_needs_the_token(self, sandboxes: Server) -> None:
        sandbox = Sandbox.create(timeout=60, network={"allow_public_traffic": False})
        assert sandbox.run_code("1").text == "1"
        reply = httpx.get(sandboxes.url, headers={"Host": sandbox.get_host(8080)})
        assert reply.status_code == 403
