"""What Snakemake starts in place of Python: has a process forked for the job, and stands for it.

It ends as the job ends, passes signals on to it, and takes it along when it is killed. Whatever
cannot be forked runs in a new Python: other programs, and any job once there is no server.
The arguments are Python's path, the folder of the server's sockets, and Python's own arguments. No
package is imported, so that it starts in milliseconds.
"""

import ctypes
import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False  # without the milliseconds of importing typing
if TYPE_CHECKING:
    from typing import NoReturn

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


def main(python: str, folder: str, *arguments: str) -> "NoReturn":
    """Run `python ARGUMENTS`, as a fork if it is a job's script."""
    if len(arguments) == 1 and os.path.dirname(arguments[0]).endswith(".snakemake/scripts"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            job = ask(connection, folder, arguments[0])
        except OSError:  # the server was killed, or the environment is too long for a message
            job = 0
        if job:
            stand_for(job, connection)
        connection.close()
    os.execv(python, [python, *arguments])


def ask(connection: socket.socket, folder: str, script: str) -> int:
    """Have a script run in a fork; return its process id, or 0 if none was made."""
    # Snakemake's copy of scripts/train.py is named tmpXXXXXXXX.train.py
    name = os.path.join(folder, os.path.basename(script).partition(".")[2])
    connection.connect(name if os.path.exists(name) else os.path.join(folder, "others"))
    request = json.dumps([script, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(connection, [request], [0, 1, 2])
    return int(connection.recv(100) or 0)


def stand_for(job: int, connection: socket.socket) -> "NoReturn":
    """Wait until the job ends, and end in the same way."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the job, too
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os.kill(job, number))
    code = int(connection.recv(100) or -signal.SIGKILL)  # it does not survive its server
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
