"""Every exception that the evals raise on purpose.

EvalsError
├── DataError           a benchmark's data cannot be used
│   ├── DataMissing     it is not in the data folder: says how to bring it
│   └── DataMismatch    the bytes are not those that were pinned
├── TemplateError       a prompt template that does not fit the benchmark
├── SandboxMissing      model-written code cannot be run safely here: says what to install
├── OptionError         what was asked for makes no sense, or not together
├── RunError            a run cannot go on, or cannot begin
│   ├── FolderInUse     another process writes to the output folder
│   ├── SettingsDiffer  the folder holds a run with other settings
│   ├── RecordsDamaged  a line of the records, not the last, cannot be read
│   └── ServerUnusable  call after call failed
└── CallFailed          one call got no answer (in `evals.client`)
"""


class EvalsError(Exception):
    """Base of every error that the evals raise on purpose; its text is meant for the person at the command line."""


class DataError(EvalsError):
    """A benchmark's data cannot be used."""


class DataMissing(DataError):
    """A benchmark's file is not in the data folder."""


class DataMismatch(DataError):
    """A file's sha256 or shape is not the pinned one. Such a file is refused, never scored."""


class TemplateError(EvalsError):
    """A prompt template lacks a placeholder that it needs, or has one that the benchmark does not know."""


class SandboxMissing(EvalsError):
    """No working sandbox, and running without one was not asked for."""


class OptionError(EvalsError):
    """What was asked for makes no sense, or not together."""


class RunError(EvalsError):
    """A run cannot go on, or cannot begin."""


class FolderInUse(RunError):
    """Another process writes to the output folder."""


class SettingsDiffer(RunError):
    """The output folder holds a run with other settings; mixing the two would make numbers that mean nothing."""


class RecordsDamaged(RunError):
    """A line of the records, not the last, cannot be read."""


class ServerUnusable(RunError):
    """Call after call failed: going on would only write failures."""
