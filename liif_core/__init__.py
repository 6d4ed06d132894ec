"""What LIIF is in both frameworks: one protocol, in numpy."""

__version__ = "0.1.0"
