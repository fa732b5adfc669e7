"""Starts a program so that it cannot outlive this process, and inherits nothing it should not."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from service.embedded.access import ServerUser
from service.embedded.logs import ServerLog

CHILD = Path(__file__).with_name("child.py")

# Only Linux tells a child of its parent's death. Elsewhere a server outlives a SIGKILL of the
# service, and the next start finds it by its lock and its socket and shuts it down: see
# Server.launch.
DEATH_SIGNAL = sys.platform == "linux"

KILL_WAIT_S = 5.0


def spawn(
    command: list[str],
    *,
    log: ServerLog,
    death_signal: signal.Signals,
    user: ServerUser | None = None,
    inherit: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, in `/` and with nearly no environment.

    A session of its own, so that Ctrl-C in a terminal reaches the service alone, which still needs
    its servers to drain. Nearly no environment, since PGPORT and its like would change what the
    servers do and since secrets of the service are none of theirs.

    Args:
        command: The program's path and its arguments.
        log: Where its output goes.
        death_signal: What it gets when this process ends (on Linux).
        user: Who it runs as; None for the user of this process.
        inherit: Open descriptors it keeps.

    Returns:
        The process. Its id is that of the program itself.

    Raises:
        RuntimeError: Called outside the main thread. The death signal comes when the starting
            thread ends.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("embedded servers must be started from the main thread")
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    if "LD_LIBRARY_PATH" in os.environ:  # how some systems find libz and libc for programs out of a wheel
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    uid, gid = (user.uid, user.gid) if user else (-1, -1)
    numbers = (os.getpid(), int(death_signal) if DEATH_SIGNAL else 0, uid, gid)
    output = log.open()
    try:
        return subprocess.Popen(  # noqa: S603 - no shell, and the command is ours
            [sys.executable, "-I", "-S", "-B", str(CHILD), *map(str, numbers), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            start_new_session=True,
            pass_fds=inherit,
        )
    finally:
        os.close(output)


def end(process: subprocess.Popen[bytes], *signals: signal.Signals, wait_s: float) -> None:
    """Wait for a process that was asked to end, with ever stronger words.

    Args:
        process: The process; it may have ended already.
        signals: What to send, one after the other, each after waiting in vain. SIGKILL follows by
            itself.
        wait_s: How long to wait before the first; KILL_WAIT_S before each further one.
    """
    for stronger in (*signals, signal.SIGKILL):
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.send_signal(stronger)
            wait_s = KILL_WAIT_S
        else:
            return
    process.wait()
