"""monGARS: a personal AI that people run themselves."""

__version__ = "0.1.0"
