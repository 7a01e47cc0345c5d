"""Programs that try to pass without being right, to get out, or to bring the harness down."""

from evals.sandbox import Program

WANTED = 4711
TESTS = f"""
def check(candidate):
    assert candidate(1) == {WANTED}
    assert candidate(2) == {WANTED} + 1

check(f)
"""
RIGHT = f"def f(x):\n    return {WANTED - 1} + x\n"


def asked(solution: str, tests: str = TESTS, prelude: str = "") -> Program:
    return Program(solution, "f", prelude, tests)


def contained(body: str) -> Program:
    """A program whose function says what it got hold of; its test passes if that is nothing."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return asked(f"def f():\n    got = []\n{indented}\n    return got\n", "assert f() == []")


# What each is told is its reason: a program that fails for another reason, such as a slip in its text, is no test.
CHEATS = {
    "SystemExit at import": ("raise SystemExit\n", "raised SystemExit"),
    "SystemExit in the call": ("def f(x):\n    raise SystemExit(0)\n", "raised SystemExit"),
    "an early exit": ("import os\nos._exit(0)\n", "exit 0"),
    "an early exit in the call": ("import os\ndef f(x):\n    os._exit(0)\n", "exit 0"),
    "an object equal to everything": (
        "class Equal:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return Equal()\n",
        "not plain data",
    ),
    "an integer equal to everything": (
        "class Equal(int):\n    def __eq__(self, other):\n        return True\n    __ne__ = None\n"
        "def f(x):\n    return Equal(5)\n",
        "does not hold",
    ),
    "a list in a subclass equal to everything": (
        "class Equal(list):\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return Equal()\n",
        "does not hold",
    ),
    "printing passed": (
        "def f(x):\n    print(\"passed\", flush=True)\n    print('ready \\npassed ', flush=True)\n    return 0\n",
        "does not hold",
    ),
    "redefining check and assert": (
        "import builtins\nclass Quiet(BaseException):\n    pass\nbuiltins.AssertionError = Quiet\n"
        "def check(candidate):\n    pass\nbuiltins.check = check\n"
        "import __main__\n__main__.check = check\ndef f(x):\n    return 0\n",
        "does not hold",
    ),
    "a trace function": (
        "import sys, threading\ndef skip(frame, event, argument):\n    frame.f_trace_lines = False\n    return None\n"
        "sys.settrace(skip)\nthreading.settrace(skip)\ndef f(x):\n    return 0\n",
        "does not hold",
    ),
    "printing at exit": (
        "import atexit\natexit.register(lambda: print('passed '))\ndef f(x):\n    return 0\n",
        "does not hold",
    ),
    "an AssertionError of its own": ("def f(x):\n    raise AssertionError('passed')\n", "raised AssertionError"),
    "a generator without end": (
        "import itertools\ndef f(x):\n    return itertools.count()\n",
        "does not hold",
    ),
    "a result that holds itself": ("def f(x):\n    l = []\n    l.append(l)\n    return l\n", "RecursionError"),
    "a class in place of the function": ("f = 'passed'\n", "raised TypeError"),
    "no function at all": ("g = 1\n", "raised AttributeError"),
    "a syntax error": ("def f(x:\n", "raised SyntaxError"),
    "10 GB at once": ("def f(x):\n    return len(bytearray(10 << 30)) and 0\n", "raised MemoryError"),
    "10 GB bit by bit": (
        "def f(x):\n    l = []\n    while True:\n        l.append(bytearray(1 << 20))\n",
        "raised MemoryError",
    ),
    "a result of 40 MB": ("def f(x):\n    return 'x' * (40 << 20)\n", "larger than what may come back"),
    "killing the checker": (
        "import os, signal\ndef f(x):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 0\n",
        "ended without a result",
    ),
    "a message that is none": (
        "import os\ndef f(x):\n    for fd in range(3, 64):\n        try:\n"
        "            os.write(fd, bytes(7) + b'\\2no')\n"
        "        except OSError:\n            pass\n    return 0\n",
        "sent no message",
    ),
    "closing every pipe": (
        "import os\ndef f(x):\n    os.closerange(0, 64)\n    import time\n    time.sleep(60)\n",
        "ended early",
    ),
    "a name that is no exception": (
        "class SystemExit(BaseException):\n    pass\ndef f(x):\n    raise SystemExit\n",
        "raised SystemExit",
    ),
    "an exception that cannot be printed": (
        "class Odd(Exception):\n    def __str__(self):\n        raise KeyboardInterrupt\ndef f(x):\n    raise Odd\n",
        "raised Odd",
    ),
    "writing the checker's result": (
        "import os\ndef f(x):\n    for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "        if pid != str(os.getpid()):\n            for fd in (1, 2):\n                try:\n"
        "                    with open(f'/proc/{pid}/fd/{fd}', 'w') as file:\n"
        "                        file.write('passed  \\n')\n                except OSError:\n"
        "                    pass\n    return 0\n",
        "does not hold|without a result",
    ),
}

# These go on until a limit ends them.
BOMBS = {
    "9^9^9^9": ("def f(x):\n    return 9 ** 9 ** 9 ** 9\n", "signal|MemoryError|not done within"),
    "a loop": ("while True:\n    pass\n", "signal|not done within"),
    "endless output": ("def f(x):\n    while True:\n        print('x' * 4096)\n", "signal|not done within"),
    "a fork bomb": (
        "import os\ndef f(x):\n    while True:\n        try:\n            os.fork()\n"
        "        except OSError:\n            pass\n",
        "signal|not done within|sent no message|larger|raised",
    ),
    "a thread bomb": (
        "import threading\ndef spin():\n    while True:\n        pass\ndef f(x):\n    while True:\n"
        "        threading.Thread(target=spin).start()\n",
        "raised RuntimeError|signal|not done within",
    ),
    "stopping the checker": (
        "import os, signal\ndef f(x):\n    os.kill(os.getppid(), signal.SIGSTOP)\n    return 0\n",
        "not done within",
    ),
    "killing everything": ("import os\ndef f(x):\n    os.kill(-1, 9)\n", "without a result|did not start|ended"),
    "endless output into the harness's pipe": (
        "import os\ndef f(x):\n    while True:\n        for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "            try:\n                with open(f'/proc/{pid}/fd/1', 'w') as file:\n"
        "                    file.write('x' * 65536)\n            except OSError:\n                pass\n",
        "signal|bytes of output|not done within",
    ),
}

# What the sandbox keeps out; each passes if the program got hold of nothing.
REACHES = {
    "writing outside": """
import os
for folder in ("/", "/usr", "/usr/lib", "/dev", "/dev/shm", "/etc", "/home", "/proc/sys/kernel", "/var", "/bin"):
    try:
        open(os.path.join(folder, "left-behind"), "w").close()
        got.append(folder)
    except OSError:
        pass
""",
    "reading the machine": """
import os
names = ("/etc/passwd", "/etc/shadow", "/root", "/home", "/var", "/work", "/srv")
got += [name for name in names if os.path.exists(name)]
got += os.listdir("/tmp")
""",
    "the network": """
import socket
for family, address in ((2, ("1.1.1.1", 80)), (2, ("127.0.0.1", 80)), (10, ("::1", 80)), (40, (2, 80))):
    for kind in (1, 2):
        try:
            with socket.socket(family, kind) as made:
                made.settimeout(1)
                made.connect(address)
            got.append((family, kind))
        except OSError:
            pass
for family in (16, 17, 38, 40):
    try:
        socket.socket(family, 3 if family < 20 else 1).close()
        got.append(family)
    except OSError:
        pass
""",
    "the environment": """
import os
allowed = {"PATH", "PYTHONHASHSEED", "PWD", "LC_CTYPE"}
got += sorted(set(os.environ) - allowed)
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/environ") as file:
            got += [pair for pair in file.read().split(chr(0)) if pair and pair.split("=")[0] not in allowed]
    except OSError:
        pass
""",
    "rights": """
import os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
if not all(status[name].strip() == "0" * 16 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")):
    got.append("capabilities")
if status["NoNewPrivs"].strip() != "1" or 0 in os.getresuid() + os.getresgid():
    got.append("root")
for change in (lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: os.nice(-1)):
    try:
        change()
        got.append("a change")
    except OSError:
        pass
""",
    "refused system calls": """
import ctypes, os, mmap
libc = ctypes.CDLL(None, use_errno=True)
calls = {
    "ptrace": lambda: libc.ptrace(16, os.getppid(), 0, 0),
    "shmget": lambda: libc.shmget(0, 4096, 0o1600),
    "memfd_create": lambda: libc.memfd_create(b"x", 0),
    "unshare": lambda: libc.unshare(0x10000000),
    "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "keyctl": lambda: libc.syscall(250 if os.uname().machine == "x86_64" else 219, 0, -3, 0),
    "io_uring_setup": lambda: libc.syscall(425, 8, ctypes.create_string_buffer(128)),
}
for name, call in calls.items():
    if call() != -1 or ctypes.get_errno() != 1:
        got.append(name)
""",
    "the checker's memory": """
import ctypes, os
for path in ("mem", "maps", "environ", "fd/0", "fd/1", "cwd/x"):
    try:
        with open(f"/proc/{os.getppid()}/{path}", "rb") as file:
            file.read(1)
        got.append(path)
    except OSError:
        pass
try:
    got += os.listdir(f"/proc/{os.getppid()}/fd")
except OSError:
    pass
""",
    "filling the disk": """
import os
total = 0
try:
    for number in range(4):
        with open(f"/tmp/{number}", "wb") as file:
            for _ in range(15):
                total += file.write(bytes(1 << 20))
except OSError:
    pass
if total > 40 << 20:
    got.append(total)
""",
    "a large file": """
try:
    with open("/tmp/large", "wb") as file:
        for _ in range(30):
            file.write(bytes(1 << 20))
            file.flush()
    got.append("30 MB")
except OSError:
    pass
""",
    "many processes": """
import os, signal, time
made = []
try:
    for _ in range(200):
        pid = os.fork()
        if not pid:
            time.sleep(60)
        made.append(pid)
except OSError:
    pass
for pid in made:
    os.kill(pid, signal.SIGKILL)
if len(made) > 16:
    got.append(len(made))
""",
    "raising a limit": """
import resource
for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE"):
    try:
        number = getattr(resource, name)
        resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        got.append(name)
    except (ValueError, OSError):
        pass
""",
}

# Looks for a number that only the tests hold, everywhere that a program in one interpreter with them would find it.
SEARCH = """
import gc, os, re, sys

def f(x):
    mark = "".join(["the-wanted-", "number-is-"])
    found = []

    def look(text):
        found.extend(re.findall(mark + "([0-9]+)", text))

    frame = sys._getframe()
    while frame:
        look(repr(list(frame.f_locals.values()))[:1000000])
        look(repr(list(frame.f_globals.values()))[:1000000])
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing) in (dict, list, tuple):
            try:
                look(repr(thing)[:100000])
            except Exception:
                pass
    for name in list(sys.modules):
        look(repr(vars(sys.modules[name]))[:1000000])
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ", "fd/0"):
            try:
                with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                    os.set_blocking(file.fileno(), False)
                    look((file.read(1 << 20) or b"").decode("utf-8", "replace"))
            except OSError:
                pass
        try:
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
                for line in maps:
                    start, end = (int(part, 16) for part in line.split()[0].split("-"))
                    if " rw" in line and end - start < 64 << 20:
                        memory.seek(start)
                        look(memory.read(end - start).decode("latin-1"))
        except (OSError, ValueError):
            pass
    for folder, _, names in os.walk("/tmp"):
        for name in names:
            look(open(os.path.join(folder, name)).read())
    return int(found[0]) + x - 1 if found else 0
"""
SEARCH_TESTS = f"""
wanted = "the-wanted-number-is-{WANTED}"
assert f(1) == int(wanted.rpartition("-")[2])
"""
