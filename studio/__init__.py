"""An offline studio for generated media."""

__version__ = "0.1.0"
