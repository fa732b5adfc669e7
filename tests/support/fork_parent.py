"""The process of which ``forks.py`` starts forks: it has imported the service, and has no threads.

It reads requests from the socket that is its standard input, reports the started forks and the exit codes of
those that ended, and ends with its forks when the socket is closed.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import service.cli.main
from service.__main__ import main

_LARGEST_REQUEST = 65_536


class ForkParent:
    """Forks on request; ``run`` returns in a fork, as the command that was asked for."""

    def __init__(self) -> None:
        self._control = socket.socket(fileno=os.dup(0))
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._running: set[int] = set()
        # Ctrl-C is for the tests, which then close the socket.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.set_wakeup_fd(self._waker.fileno())

    def run(self) -> bool:
        """Serve until the socket is closed; return whether this is a fork now."""
        try:
            return self._serve()
        except ConnectionError:
            self._kill_all()
            return False

    def _serve(self) -> bool:
        while True:
            ready, _, _ = select.select([self._control, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(4096)
                self._report_ended()
            if self._control in ready:
                data, files, *_ = socket.recv_fds(self._control, _LARGEST_REQUEST, 2)
                if not data:
                    self._kill_all()
                    return False
                pid = os.fork()
                if pid == 0:
                    self._become(json.loads(data), files)
                    return True
                for file in files:
                    os.close(file)
                self._running.add(pid)
                self._report(pid=pid)

    def _kill_all(self) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)

    def _report_ended(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._running.discard(pid)
                self._report(pid=pid, code=os.waitstatus_to_exitcode(status))

    def _report(self, **what: int) -> None:
        self._control.sendall(json.dumps(what).encode() + b"\n")

    def _become(self, request: dict[str, object], files: list[int]) -> None:
        """Have the environment, folder, arguments and files of a command, and nothing of this process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for end in (self._control, self._woken, self._waker):
            end.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for file, number in zip((nothing, *files), (0, 1, 2), strict=True):
            os.dup2(file, number)
            os.close(file)
        environment, folder, arguments = request["environment"], request["folder"], request["arguments"]
        assert isinstance(environment, dict)
        assert isinstance(arguments, list)
        os.chdir(str(folder))
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(Path(service.__file__).with_name("__main__.py")), *arguments]


if __name__ == "__main__":
    # The forks share the memory of what is imported, as long as none of it is written.
    gc.freeze()
    if ForkParent().run():
        main()
