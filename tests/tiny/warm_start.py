"""``plaudit`` and ``python`` for shells of the tests, each process forked from one that has
imported torch and its kin: a command starts in a tenth of a second instead of in five.

``python warm_start.py SOCKET`` serves until it is killed; ``shims`` writes the two programs, which
hand it their arguments, folder, environment and open files, and end as the forked process ends. It
ends when they are killed.
"""

import array
import json
import os
import runpy
import select
import signal
import socket
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

# What commands import only once they run.
LATER = ("trl", "sklearn.linear_model", "matplotlib.pyplot", "transformers.trainer")
# For a command whose shim is gone to end by itself.
END_SECONDS = 10.0
SHIM = """#!{python} -ISu
import array, json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
given = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
files = array.array("i", [0, 1, 2])
server.sendmsg([len(given).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
server.sendall(given)
pid = int.from_bytes(server.recv(4), "big")
for one in (signal.SIGTERM, signal.SIGINT):
    signal.signal(one, lambda number, _: os.kill(pid, number))
answer = server.recv(4)
sys.exit(int.from_bytes(answer, "big") if answer else 1)
"""


def shims(folder: Path, address: Path) -> None:
    """The programs ``plaudit`` and ``python`` in ``folder``, for a shell's PATH."""
    for program in ("plaudit", "python"):
        file = folder / program
        file.write_text(SHIM.format(python=sys.executable, address=str(address), program=program))
        file.chmod(0o755)


def serve(address: str) -> None:
    for point in entry_points(group="plaudit.commands"):
        point.load()
    for name in LATER:
        import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print(address, flush=True)
    while True:
        shell, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            attend(shell)
        shell.close()


def attend(shell: socket.socket) -> None:
    """One command: in a process of its own, waited for by this one, and ended with its shim."""
    files = array.array("i")
    size, ancillary, *_ = shell.recvmsg(4, socket.CMSG_LEN(3 * files.itemsize))
    files.frombytes(ancillary[0][2])
    given = b""
    while len(given) < int.from_bytes(size, "big"):
        given += shell.recv(65536)
    pid = os.fork()
    if pid == 0:
        shell.close()
        become(*json.loads(given), files=list(files))
    for one in files:  # a pipe of the shell's is over once nobody has it any more
        os.close(one)
    shell.sendall(pid.to_bytes(4, "big"))
    ended = os.pidfd_open(pid)
    if ended in select.select([ended, shell], [], [])[0]:
        _, status = os.waitpid(pid, 0)
        shell.sendall((os.waitstatus_to_exitcode(status) % 256).to_bytes(4, "big"))
    else:  # a shim says nothing more but that it is gone
        os.kill(pid, signal.SIGTERM)
        if not select.select([ended], [], [], END_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os._exit(0)


def become(
    program: str, arguments: list[str], folder: str, environment: dict[str, str], files: list[int]
) -> None:
    for own, given in enumerate(files):
        os.dup2(given, own)
        os.close(given)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    code = 1
    try:
        code = run(program, arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001  the process ends here, and must not go on as the server
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(program: str, arguments: list[str]) -> int:
    if program == "plaudit":
        sys.argv = ["plaudit", *arguments]
        status: int = import_module("plaudit.cli").main(arguments)
        return status
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = arguments, [str(Path(arguments[0]).resolve().parent)]
        runpy.run_path(arguments[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    serve(sys.argv[1])
