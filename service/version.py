"""The version of what is installed."""

from importlib import metadata

VERSION = metadata.version("powercut")
