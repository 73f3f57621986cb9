"""The command line: everything a person does with monGARS outside a browser."""

from mongars.cli.program import main

__all__ = ["main"]
