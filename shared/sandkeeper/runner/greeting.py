"""What every kernel runs first, and how it is asked to before there is time for anything else."""

from __future__ import annotations

import os
from _socket import AF_INET, SOCK_STREAM, socket  # the module `socket` takes longer to import than all else here

PORT = 49999
MOST_MATCHES = 200
"""How many completions are told of one place."""
_COMPLETER = "completer-{}"
"""What the socket is called on which a kernel completes code, by its process id."""
_PREPARE = f"""
import json, os, socket, sys, threading

sys.stdout.flush_interval = sys.stderr.flush_interval = 0.02
shell.execution_count -= 1
shell.Completer.use_jedi = False
listening = socket.socket(socket.AF_UNIX)
listening.bind(os.path.join(folder, '{_COMPLETER}'.format(os.getpid())))
listening.listen(4)

def complete(code, cursor):
    from IPython.core.completer import provisionalcompleter, rectify_completions

    with provisionalcompleter():
        found = [*rectify_completions(code, shell.Completer.completions(code, cursor))]
    matches = [{{'text': each.text, 'kind': each.type}} for each in found[:{MOST_MATCHES}]]
    return {{'start': found[0].start, 'end': found[0].end, 'matches': matches}} if found else {{}}

def answer():
    while True:
        connection, _ = listening.accept()
        try:
            with connection, connection.makefile('rwb') as stream:
                answer = complete(**json.loads(stream.readline()))
                stream.write(json.dumps(answer).encode())
        except Exception:
            pass

threading.Thread(target=answer, name='completer', daemon=True).start()
"""


def code(folder: str) -> str:
    """Returns what every kernel runs first, in which no name gets among the user's.

    What a program prints is shown after 20 ms, not 200. This is not counted, so that the first run is number 1.

    A thread completes code, for whoever connects to its socket in the folder. No run is needed for that: neither
    count nor history moves, and it works while code runs. Jedi is left out; objects are alive here, and say
    themselves what they have.
    """
    return f"exec({_PREPARE!r}, dict(shell=get_ipython(), folder={folder!r}))"


def completer(folder: str, process: str) -> str:
    """Returns the path of the socket on which this kernel completes code."""
    return os.path.join(folder, _COMPLETER.format(process))


def send(host: str, access_token: str, folder: str) -> int | None:
    """Asks the interpreter to run that, and returns the descriptor of the connection on which it will answer.

    None when it cannot be asked now.
    """
    text = code(folder).replace("\\", "\\\\").replace('"', '\\"')  # JSON, as far as one line of it goes
    body = f'{{"code": "{text}"}}'
    connection = socket(AF_INET, SOCK_STREAM)
    try:
        connection.connect((host, PORT))
        connection.sendall(request("/execute", access_token, body.encode()))
    except OSError:
        connection.close()
        return None
    return connection.detach()


def request(path: str, access_token: str, body: bytes) -> bytes:
    """Returns a request to the interpreter, on a connection of its own."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-access-token: {access_token}\r\n\r\n"
    )
    return head.encode() + body
