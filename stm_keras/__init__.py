"""The tip-state engine for scanning tunnelling microscopes."""

__version__ = "0.1.0"
