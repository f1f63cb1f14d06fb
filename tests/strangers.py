"""Another user of this computer, as a test has one: a process that root gives to `nobody`."""

import os
import subprocess
import sys

NOBODY = 65534
# Sends its third argument to an address. "leave": it is gone before anybody can have looked at it.
CLIENT = """
import os, socket, sys
if sys.argv[5:]:
    os.setuid(int(sys.argv[5]))  # here: that user may not be able to read this Python
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
client = socket.socket(family)
client.settimeout(10)
client.connect((sys.argv[1], int(sys.argv[2])))
client.sendall(sys.argv[3].encode())
if sys.argv[4] == "leave":
    client.close()
else:
    if sys.argv[4] == "half":
        client.shutdown(socket.SHUT_WR)
    while data := client.recv(65536):
        sys.stdout.write(data.decode())
"""


def owner_of_strangers() -> int | None:
    """Return whose the program is to be, so that a stranger is another user: root can become one, others can't."""
    return None if os.geteuid() == 0 else os.geteuid() + 1


def send(host: str, port: int, request: str, how: str = "stay", *, is_stranger: bool = True) -> str:
    user = [str(NOBODY)] if is_stranger and os.geteuid() == 0 else []
    command = [sys.executable, "-S", "-c", CLIENT, host, str(port), request, how, *user]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(method: str, path: str, body: str = "", **headers: str) -> str:
    head = {
        "Host": "localhost",
        "Connection": "close",
        "x-holdall": "page",
        "Content-Length": str(len(body)),
        **headers,
    }
    return (
        f"{method} {path} HTTP/1.1\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in head.items())
        + f"\r\n{body}"
    )
