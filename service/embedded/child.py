"""The first program in a server's process: drops privileges, sets its signals, execs.

`process.spawn` runs it as a script, `python -I -S child.py PARENT SIGNAL UID GID COMMAND...`, where user -1
keeps the user and signal 0 sets no death signal. Doing this between fork and exec (`preexec_fn`) would be
8 ms faster, but is not safe once the service has threads, and a server may have to be restarted then.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main(arguments: list[str]) -> None:
    """Become the server.

    Args:
        arguments: The parent's process id, the death signal, user id, group id, and the server's command.
    """
    parent, signal_number, uid, gid = (int(argument) for argument in arguments[:4])
    command = arguments[4:]
    os.umask(0o077)
    prctl = None
    if signal_number:
        # Imported before the user changes, since the new user may not be able to read Python's library; and
        # only here, since it takes a third of this program's time, and macOS does not need it.
        import ctypes  # noqa: PLC0415

        prctl = ctypes.CDLL(None).prctl
    try:
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        # Set after the user has changed, since that clears it. It survives exec. The signal is sent when the
        # *thread* that forked this process ends. If a kernel does not support it, the next start finds the
        # server by its lock and its socket, as on macOS.
        if prctl:
            prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
            if os.getppid() != parent:
                sys.exit("the process that starts this server has ended")
        # Blocked by the parent until now: one that has arrived since ends this process here.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        os.execv(command[0], command)  # noqa: S606 - the command is ours, and no shell is wanted
    except OSError as error:
        user = uid if uid >= 0 else os.geteuid()
        sys.exit(f"cannot run {command[0]} as user {user}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
