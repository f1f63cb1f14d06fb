"""Whose a connection is, when it comes from this computer: Linux tells which user opened the other end's socket.

The loopback address is open to every user of a computer, and the chats behind it are one person's. So the kernel is
asked about the other end (sock_diag(7), four microseconds however many sockets there are): no secret that a bookmark
would lack, and nothing for the person to do. A program that hands connections on, a reverse proxy say, is the user that
it runs as; `ssh -L` runs as the user who logged in. Root may read the file of chats anyway, so root is let in.

Only an open socket says who its owner is: of one that is closed already older kernels say that it is root's, and
somebody could send a request and be gone. Who is gone reads no answer, so nothing is lost by refusing it.
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from functools import cache

Address = tuple[str, int]

_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20  # the netlink protocol and its one message, linux/sock_diag.h
_REQUEST = 1  # NLM_F_REQUEST
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_QUESTION = struct.Struct("=BBBBI")  # struct inet_diag_req_v2: family, protocol, extensions, padding, states; a socket
_SOCKET = struct.Struct("!HH16s16s")  # struct inet_diag_sockid: source port, destination port, source, destination
_PLACE = struct.Struct("=III")  # and its interface and cookie; all ones is any cookie
_ANSWER = struct.Struct("=BBBB48xIIIII")  # struct inet_diag_msg: family, state, …; expires, queues, user, inode
_ANY = 0xFFFFFFFF
_ESTABLISHED, _LISTENING = 1, 10  # states of TCP, net/tcp_states.h
_ROOT = 0


class Peers:
    """Tells connections of other users of this computer. One thread uses it at a time.

    Its socket is opened once, so that a program that may open none later can go on asking. Systems other than Linux,
    and kernels without this, say nothing; then `can_tell` is False and nobody is taken for another user.
    """

    def __init__(self, listening: socket.socket, owner: int | None = None) -> None:
        """`listening` is a socket of ours to try it with; `owner` is the user's id, this process's by default."""
        self._owner = os.geteuid() if owner is None and hasattr(os, "geteuid") else owner
        self._num_asked = 0
        self._kernel = _connected_to_kernel()
        _interfaces()  # asks by a socket, too
        here = listening.getsockname()
        found = self._look_up(here[:2], ("::" if ":" in here[0] else "0.0.0.0", 0))
        self.can_tell = found is not None and found[0] == _LISTENING

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()

    def is_another_user(self, client: Address, server: Address) -> bool:
        """Whether a connection comes from this computer and isn't its owner's or root's; `server` is our end of it."""
        if not self.can_tell:
            return False
        found = self._look_up(client, server)
        if found is None:
            return client[0] == server[0] or ipaddress.ip_address(client[0].partition("%")[0]).is_loopback
        state, user = found
        return state != _ESTABLISHED or user not in (self._owner, _ROOT)

    def _look_up(self, near: Address, far: Address) -> tuple[int, int] | None:
        """Return the state and the user of the socket whose own address is `near`, None when there is none here."""
        if self._kernel is None:
            return None
        self._num_asked = (self._num_asked + 1) & _ANY
        try:
            self._kernel.send(_question(near, far, self._num_asked))
            # The kernel answers within the call. An answer to an earlier question is one that was given up.
            while True:
                answer = self._kernel.recv(4096)
                _length, kind, _flags, number, _port = _HEADER.unpack_from(answer)
                if number == self._num_asked:
                    break
        except (OSError, LookupError, ValueError):
            return None
        if kind != _SOCK_DIAG_BY_FAMILY:
            return None
        _family, state, _timer, _retransmits, _expires, _to_read, _to_write, user, _inode = _ANSWER.unpack_from(
            answer, _HEADER.size
        )
        return state, user


@cache
def _interfaces() -> Mapping[str, int]:
    """The numbers of the network interfaces by their names, as they are when this is asked first."""
    return {name: index for index, name in socket.if_nameindex()}


def _connected_to_kernel() -> "socket.socket | None":
    if not hasattr(socket, "AF_NETLINK"):
        return None
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG)
    except OSError:
        return None
    kernel.setblocking(False)
    return kernel


def _question(near: Address, far: Address, number: int) -> bytes:
    """Return the message that asks for one socket. Raises LookupError, OSError, ValueError for no address."""
    host, _, interface = near[0].partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ends = (socket.inet_pton(family, each.partition("%")[0]) for each in (host, far[0]))
    question = (
        _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY)
        + _SOCKET.pack(near[1], far[1], *ends)
        + _PLACE.pack(_interfaces()[interface] if interface else 0, _ANY, _ANY)
    )
    return _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST, number, 0) + question
