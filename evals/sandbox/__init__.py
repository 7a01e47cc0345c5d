"""The only place that starts model-written code: inside bubblewrap, within limits, judged by a secret.

What a check promises: the program under test has no network, sees of the file system only the operating system's
libraries (read-only) and an empty scratch folder of bounded size, finds an empty environment, is refused the system
calls of `evals.sandbox.syscalls`, and is held to limits of memory, processor time, file size, processes and wall time.
It runs as an unprivileged user even when the harness runs as root. It passes only if every test ran to its end:
`evals.sandbox.inside` says how the secret proves that.

What it does not promise: the sandbox shares the kernel, so a hole in the kernel is a way out. Memory is limited per
process (`Limits.memory_bytes` × `Limits.processes` is the bound of all together).
"""

import asyncio
import hmac
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from evals.errors import SandboxMissing
from evals.sandbox.command import Tools, bare_command, find_bubblewrap, find_tools, sandboxed_command
from evals.sandbox.inside.wire import encode
from evals.sandbox.process import NotDone, TooMuchOutput, run_limited
from evals.sandbox.syscalls import seccomp_filter

READY = b"ready  \n"
"""What the checker says first; before it, whatever fails is the sandbox's fault."""
INSTALL = (
    "Model-written code is run in a sandbox only. Install bubblewrap 0.8 or newer (`apt-get install bubblewrap`, "
    "`dnf install bubblewrap`, `pacman -S bubblewrap`) and allow user namespaces (in a container: `--security-opt` "
    "with each of seccomp=unconfined, apparmor=unconfined and systempaths=unconfined, which is what compose.yaml's "
    "profile `eval` does). `--unsafe`, given in full, runs the code without a sandbox: with your rights, your files "
    "and your network."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one check may use.

    Attributes:
        wall_s: Seconds from start to end; three times `cpu_s`, so that a busy machine fails no right program.
        cpu_s: Seconds of processor time of the program.
        memory_bytes: Address space of each process.
        file_bytes: Size of each file.
        scratch_bytes: All files together.
        open_files: Descriptors of each process.
        processes: Processes and threads together; three of them are the sandbox's own.
        output_bytes: What may reach the harness, which is two short lines where nothing is wrong.
    """

    wall_s: float = 15.0
    cpu_s: int = 5
    memory_bytes: int = 512 << 20
    file_bytes: int = 16 << 20
    scratch_bytes: int = 32 << 20
    open_files: int = 64
    processes: int = 16
    output_bytes: int = 64 << 10


@dataclass(frozen=True, slots=True)
class Program:
    """A model's program and the tests it must pass.

    Attributes:
        solution: The model's program, which defines `entry_point`.
        entry_point: The function under test.
        prelude: Trusted code that the tests build on, executed beside the tests.
        tests: Trusted code that calls the function and asserts.
    """

    solution: str
    entry_point: str
    prelude: str
    tests: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program: it passed, it did not, or the check itself did not work."""

    status: Literal["passed", "rejected", "broken"]
    detail: str = ""


class Sandbox:
    """Runs programs against their tests. Holds no process between checks; checks may run at the same time.

    Args:
        unsafe: No sandbox: only resource limits.
        limits: What one check may use.
        python: The interpreter inside (None: the operating system's own).
    """

    def __init__(self, *, unsafe: bool = False, limits: Limits | None = None, python: str | None = None) -> None:
        self.unsafe = unsafe
        self.limits = limits or Limits()
        self.python = python
        self._tools: Tools | None = None
        self._finding = asyncio.Lock()

    async def prepare(self) -> Tools:
        """Find an interpreter and show that the sandbox works: a probe passes, and fails to reach outside.

        Raises:
            SandboxMissing: It does not work here.
        """
        async with self._finding:
            if self._tools is None:
                self._tools = await self._find()
            return self._tools

    async def _find(self) -> Tools:
        said: list[str] = []
        for tools in find_tools(self.python, unsafe=self.unsafe):
            outcome = await self._run(tools, UNSAFE_PROBE if self.unsafe else PROBE)
            if outcome.status == "passed":
                return tools
            said.append(f"{tools.python}: {outcome.detail}")
        if self.unsafe:
            raise SandboxMissing(f"No interpreter runs model-written code here ({'; '.join(said) or 'none found'}).")
        missing = "no interpreter starts" if find_bubblewrap() else "bubblewrap is not installed"
        raise SandboxMissing(f"No working sandbox ({'; '.join(said) or missing}). {INSTALL}")

    async def check(self, program: Program) -> Outcome:
        """Run a program against its tests.

        Raises:
            SandboxMissing: No sandbox works here.
        """
        return await self._run(await self.prepare(), program)

    async def _run(self, tools: Tools, program: Program) -> Outcome:
        secret = secrets.token_hex(32)
        job = encode({**asdict(program), "secret": secret})
        inner = [tools.python, "-s", "-S", "-B", "-c", tools.program, *inner_limits(self.limits, self.unsafe)]
        command = (
            bare_command(tools, inner) if self.unsafe else sandboxed_command(tools, inner, self.limits.scratch_bytes)
        )
        try:
            printed, complaint = await run_limited(
                command,
                job,
                wall_s=self.limits.wall_s,
                output_bytes=self.limits.output_bytes,
                drop=tools.drop,
                contained=not self.unsafe,
            )
        except NotDone as late:
            started = late.printed.startswith(READY)
            return Outcome("rejected" if started else "broken", f"not done within {self.limits.wall_s:g} s")
        except TooMuchOutput:
            return Outcome("rejected", f"more than {self.limits.output_bytes} bytes of output")
        except OSError as error:
            return Outcome("broken", f"the sandbox cannot be started: {error.strerror}")
        return judge(printed, complaint, secret)

    def describe(self) -> dict[str, Any]:
        """Versions and limits, as plain data for a run's settings; the interpreter is known once `prepare` ran."""
        tools = self._tools
        return {
            "kind": "none (unsafe)" if self.unsafe else "bubblewrap",
            "bubblewrap": tools.version if tools else None,
            "python": tools.python if tools else self.python,
            "system_call_filter": not self.unsafe and seccomp_filter() is not None,
            "limits": asdict(self.limits),
        }


def inner_limits(limits: Limits, unsafe: bool) -> list[str]:
    """The limits that the program inside sets, as its arguments.

    Without a user namespace of its own, its processes would be counted with all others of the user: no limit then.
    """
    kept = ("cpu_s", "memory_bytes", "file_bytes", "open_files", *([] if unsafe else ["processes"]))
    return [f"{name}={getattr(limits, name)}" for name in kept]


def judge(printed: bytes, complaint: bytes, secret: str) -> Outcome:
    """What the lines that came out mean. Only a line with the secret is the checker's; any other counts for nothing."""
    if not printed.startswith(READY):
        said = complaint.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        return Outcome("broken", f"the sandbox did not start: {said[-1][:300]}")
    lines = printed.removeprefix(READY).decode("utf-8", "replace").split("\n")
    word, _, rest = lines[0].partition(" ")
    told, _, text = rest.partition(" ")
    mine = len(lines) == 2 and not lines[1] and hmac.compare_digest(told.encode(), secret.encode())
    if mine and word in ("passed", "rejected", "broken"):
        return Outcome(word, text[:300])
    return Outcome("rejected", "the check ended without a result")


PROBE = Program(
    solution="""
import os

def outside():
    found = [name for name in ("/home", "/root", "/etc", "/tmp/..data", "/var", "/sys") if os.path.exists(name)]
    for folder in ("/usr", "/", "/dev"):
        try:
            with open(os.path.join(folder, "probe"), "w"):
                found.append(folder)
        except OSError:
            pass
    return found, sorted(os.environ), os.getuid(), [line.split(":")[0].strip() for line in open("/proc/net/dev")][2:]
""",
    entry_point="outside",
    prelude="",
    tests="""
found, names, user, networks = outside()
assert not found
assert set(names) <= {"PATH", "PYTHONHASHSEED", "PWD", "LC_CTYPE", "HOME"}
assert user != 0
assert networks == ["lo"]
""",
)
UNSAFE_PROBE = replace(PROBE, solution="def outside():\n    return 1\n", tests="assert outside() == 1")
