"""Errors of the build side that a person can cause or must know about.

    BundlerError
    ├── RecipeError        the request itself makes no sense
    ├── SourceError        a model can't be fetched or isn't there
    │   └── HashMismatch   what arrived isn't what was promised
    ├── GGUFError          the file isn't a usable GGUF model
    ├── ToolchainError     something is missing on this machine, or a build step failed
    └── TargetError        the output can't be written

Each message is one line that says what happened, where, and what to do. Only command lines catch them (`bundler/cli.py`
and the two in `bundler/llamacpp`); they print the line and exit with `exit_status`. Broken bundles raise
`runtime.errors.ContainerError`.
"""


class BundlerError(Exception):
    """Root of the tree; `str(error)` is the sentence for the person."""

    exit_status = 1


class RecipeError(BundlerError):
    exit_status = 2


class SourceError(BundlerError):
    exit_status = 3


class HashMismatch(SourceError):
    """The bytes that arrived have another sha256 than the source promised."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(f"{what}: sha256 is {actual}, expected {expected}; fetch it again or choose another source")
        self.expected = expected
        self.actual = actual


class GGUFError(BundlerError):
    exit_status = 4


class ToolchainError(BundlerError):
    exit_status = 5


class TargetError(BundlerError):
    exit_status = 6
