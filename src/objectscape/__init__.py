"""Learn structured representations of scenes without labels."""

__version__ = "0.1.0"
