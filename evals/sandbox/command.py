"""The command line of a sandboxed check, and what is needed for it on this machine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from evals.sandbox.inside import program_text
from evals.sandbox.syscalls import seccomp_filter

NOBODY = 65534
"""The unprivileged user of a check, inside the sandbox and, where the harness runs as root, outside of it too."""
FILTER_AT = "{system-call filter}"
"""Stands for the descriptor at which the filter will be."""
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Tools:
    """What a check is run with.

    Attributes:
        python: The interpreter.
        bubblewrap: The sandbox's program, or None without one.
        version: Of bubblewrap, as a tuple's text such as "0.8.0".
        prefix: A folder beside /usr that the interpreter needs, or None.
        program: What `evals.sandbox.inside` made for this interpreter.
        drop: Give up root's rights before anything is started: root's own limit of processes is not kept.
    """

    python: str
    bubblewrap: str | None
    version: str | None
    prefix: str | None
    program: str
    drop: bool


def find_tools(python: str | None, *, unsafe: bool) -> Iterator[Tools]:
    """Tools to try, the likeliest first; none where bubblewrap is missing and wanted."""
    bubblewrap = None if unsafe else find_bubblewrap()
    if bubblewrap is None and not unsafe:
        return
    version = bubblewrap and bubblewrap_version(bubblewrap)
    for name in [python] if python else interpreters(unsafe):
        try:
            program = program_text(name)
        except (OSError, subprocess.SubprocessError):
            continue
        yield Tools(name, bubblewrap, version, prefix_of(name), program, drop=not unsafe and os.geteuid() == 0)


def find_bubblewrap() -> str | None:
    """Where bubblewrap is."""
    return shutil.which("bwrap", path=f"{PATH}:{os.environ.get('PATH', '')}")


def interpreters(unsafe: bool) -> list[str]:
    """Interpreters that exist: the operating system's can be read by every user, ours perhaps not."""
    own = os.path.realpath(sys.executable)
    names = (
        [own]
        if unsafe
        else [*([own] if own.startswith("/usr/") else []), "/usr/bin/python3", "/usr/local/bin/python3", own]
    )
    return [name for name in dict.fromkeys(names) if os.access(name, os.X_OK)]


def prefix_of(python: str) -> str | None:
    """The installation that an interpreter outside /usr belongs to."""
    real = os.path.realpath(python)
    return None if real.startswith("/usr/") else os.path.dirname(os.path.dirname(real))


def bubblewrap_version(bubblewrap: str) -> str:
    """Such as "0.8.0"; "0" where it does not tell."""
    told = subprocess.run([bubblewrap, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    found = re.search(r"\d{1,4}(?:\.\d{1,4}){1,2}", told[:200])
    return found[0] if found else "0"


def bare_command(tools: Tools, inner: list[str]) -> list[str]:
    """Without a sandbox: the interpreter alone, in an environment like the sandbox's."""
    return ["/usr/bin/env", "-i", f"PATH={PATH}", "PYTHONHASHSEED=0", tools.python, *inner[1:]]


def sandboxed_command(tools: Tools, inner: list[str], scratch_bytes: int) -> list[str]:
    """The command inside bubblewrap: own namespaces, a read-only root, an empty scratch folder, no environment.

    bubblewrap's root and /dev are file systems in memory that it leaves writable: both are made read-only, so that
    only the scratch folder, whose size is bounded, can be filled.
    """
    assert tools.bubblewrap is not None
    recent = tuple(map(int, (tools.version or "0").split("."))) >= (0, 8)
    return [
        tools.bubblewrap,
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv"),
        *(["--disable-userns"] if recent else []),
        *("--cap-drop", "ALL", "--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *("--ro-bind", "/usr", "/usr", *system_folders()),
        *(["--ro-bind", tools.prefix, tools.prefix] if tools.prefix else []),
        *(["--seccomp", FILTER_AT] if seccomp_filter() else []),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--size", str(scratch_bytes), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"),
        *("--setenv", "PATH", PATH, "--setenv", "PYTHONHASHSEED", "0"),
        *inner,
    ]


def system_folders() -> list[str]:
    """/bin, /lib and the like: links into /usr where the system has merged them, else folders of their own."""
    options: list[str] = []
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            options += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            options += ["--ro-bind", name, name]
    return options
