"""What batch size and optimizer choice do to speed, memory, convergence and generalisation."""

__version__ = "0.1.0"
