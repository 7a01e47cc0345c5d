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

from importlib.resources import files

MODULES = ("wire", "candidate", "checker")
"""In the order in which they need each other."""

LOADER = """\
import sys
for name, text in {sources!r}:
    module = sys.modules[name] = type(sys)(name)
    exec(compile(text, name, "exec"), vars(module))
sys.modules["evals.sandbox.inside.checker"].main()
"""


def program_text() -> str:
    """The whole program as one text for `python -c`."""
    folder = files(__name__)
    sources = [(f"{__name__}.{name}", folder.joinpath(f"{name}.py").read_text(encoding="utf-8")) for name in MODULES]
    return LOADER.format(sources=sources)
