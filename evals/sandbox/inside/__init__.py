"""The program that runs inside the sandbox: it holds the tests and asks the code under test, in a process apart.

The modules here are given to a bare interpreter as text (`python -c`), so they use the standard library of Python 3.9
and import nothing but each other. Two processes come out of them:

- The **candidate** executes the model's program and then answers calls. It gets the program and, one call at a time,
  the arguments. It never holds the tests, an expected value or the secret: it is forked before the checker reads them,
  and starts on the program only after the checker has read all of its input.
- The **checker** executes the tests. Where they call the function, the arguments go to the candidate and its result
  comes back as plain data (numbers, strings, lists, …), made into fresh objects. It tells the secret after the last
  test.

So an early exit ends the candidate and not the tests; a redefined `assert`, `check` or builtin is the candidate's own;
an object that claims to equal everything is no plain data; and a printed "passed" goes nowhere. The checker makes
itself non-dumpable, so the candidate, though of the same user, may neither trace it nor open its memory or its pipes.
"""

import base64
import subprocess
from importlib.resources import files

MODULES = ("wire", "candidate", "checker")
"""In the order in which they need each other."""

COMPILE = """\
import marshal, sys
sources = eval(sys.stdin.read())
codes = [(name, compile(text, name, "exec", dont_inherit=True, optimize=2)) for name, text in sources]
sys.stdout.buffer.write(marshal.dumps(codes))
"""
LOAD = """\
import binascii, marshal, sys
for name, code in marshal.loads(binascii.a2b_base64({codes!r})):
    module = sys.modules[name] = type(sys)(name)
    exec(code, vars(module))
sys.modules["{package}.checker"].main()
"""


def program_text(python: str) -> str:
    """The whole program as one text for `python -c`, compiled once by the interpreter that will run it.

    Raises:
        OSError: The interpreter cannot be started.
        subprocess.SubprocessError: It does not compile the program.
    """
    folder = files(__name__)
    sources = [(f"{__name__}.{name}", folder.joinpath(f"{name}.py").read_text(encoding="utf-8")) for name in MODULES]
    command = [python, "-s", "-S", "-B", "-c", COMPILE]
    codes = subprocess.run(
        command, input=repr(sources).encode(), capture_output=True, check=True, env={}, cwd="/", timeout=60
    ).stdout
    return LOAD.format(codes=base64.b64encode(codes).decode(), package=__name__)
