"""Everything that is frozen into a bundle: container, engine, chat, server."""

__version__ = "0.1.0"
