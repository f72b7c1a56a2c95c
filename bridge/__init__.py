"""Radbridge: an integration engine for medical imaging."""

__version__ = "0.1.0"
