"""Grammars compiled, and which tokens may come next under them: all that knows llguidance."""
