"""The door without a notebook: runs a script as ``__main__``, prints the report on stderr, ends as the script would have."""

from .run import main

__all__ = ["main"]
