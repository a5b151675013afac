"""What Windows lacks is not needed: there is no Windows here, but its gaps can be made."""

import os
import subprocess
import sys

import pytest
from test_layers import MODULES, name_of

GRID = """
name: anywhere
data: digits
training: {steps: 4, batch_size: 8}
schedules: [linear]
samplers: [ddim]
steps: [2]
seeds: [0, 1]
images: 8
extractor: digits
metrics: [kid]
"""
# Modules and names that Python has on POSIX alone, of which the standard library does without.
PROGRAM = """
import importlib, os, signal, sys
ours = {ours!r}
command = ["run", "anywhere.yaml", "--device", "cpu"]
if __name__ == "__main__":
    from harness.cli import main
    # Loads what is not ours, which knows what it does on each system.
    main([*command, "--store", "first"], standalone_mode=False)
    for name in [*sys.modules]:
        if name.partition(".")[0] == "harness":
            del sys.modules[name]
    for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
        sys.modules[name] = None  # to import it raises ImportError
    for module, names in {gone!r}.items():
        for name in names:
            if hasattr(sys.modules[module], name):
                delattr(sys.modules[module], name)
    for name in ours:
        importlib.import_module(name)
    from harness.cli import main
    main(command)
"""
GONE = {
    "os": ["fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getuid",
           "killpg", "mkfifo", "nice", "register_at_fork", "sched_getaffinity", "setpgid",
           "setsid", "statvfs", "sysconf", "uname", "wait", "wait4"],
    "signal": ["SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm",
               "pthread_sigmask", "setitimer", "sigwait"],
}  # fmt: skip


@pytest.mark.slow
def test_every_module_is_imported_and_a_grid_done_without_what_windows_lacks(tmp_path):
    ours = [f"harness.{name_of(path)}" for path in MODULES if "ray" not in path.stem]
    (tmp_path / "program.py").write_text(PROGRAM.format(ours=ours, gone=GONE))
    (tmp_path / "anywhere.yaml").write_text(GRID)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=os.environ | {"USERNAME": "me"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reports" / "anywhere" / "report.html").exists()
    names = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in names if set(name) & set('<>:"|?*\\')]
