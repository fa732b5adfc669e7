"""Starts programs that cannot outlive this process and inherit only what they need."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from service.embedded.access import ServerUser
from service.embedded.logs import ServerLog

CHILD = Path(__file__).with_name("child.py")

# Only Linux has parent death signals. Elsewhere a server survives a SIGKILL of the service, and the next
# start finds it by its lock and its socket and shuts it down: see Server.launch.
DEATH_SIGNAL = sys.platform == "linux"

KILL_WAIT_S = 5.0

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def spawn(
    command: list[str],
    *,
    log: ServerLog,
    death_signal: signal.Signals,
    user: ServerUser | None = None,
    inherit: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, in `/` and with an almost empty environment.

    Its own session, so that Ctrl-C in a terminal reaches only the service, which still needs its servers to
    drain. An almost empty environment, since variables such as PGPORT would change the servers' behaviour,
    and since they must not get the service's secrets.

    Args:
        command: The program's path and its arguments.
        log: The descriptor for its output.
        death_signal: The signal that it gets when this process ends (on Linux).
        user: The user that it runs as; None for this process's.
        inherit: Open descriptors that it inherits.

    Returns:
        The process. Its id is that of the program itself.

    Raises:
        RuntimeError: Called outside the main thread. The death signal is sent when the starting thread ends.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("embedded servers must be started from the main thread")
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    if "LD_LIBRARY_PATH" in os.environ:  # some systems need it to find libz and libc for a wheel's programs
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    uid, gid = (user.uid, user.gid) if user else (-1, -1)
    numbers = (os.getpid(), int(death_signal) if DEATH_SIGNAL else 0, uid, gid)
    # Relative if Python was found through a relative entry of PATH, and the child begins in another folder.
    python = Path(sys.executable).absolute()
    output = log.open()
    # The child inherits the mask. Python would turn SIGINT into an exception, which it drops at some moments
    # of its own start: the server would start, and the stop be lost. It waits until just before the exec.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        return subprocess.Popen(  # noqa: S603 - no shell, and a trusted command
            [str(python), "-I", "-S", "-B", str(CHILD), *map(str, numbers), *command],
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
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end(process: subprocess.Popen[bytes], *signals: signal.Signals, wait_s: float) -> None:
    """Wait for a process that was asked to end, escalating with signals.

    Args:
        process: The process; it may have ended already.
        signals: The signals to send, one after the other, each after waiting in vain; finally SIGKILL.
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
