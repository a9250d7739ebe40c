# Why something is not exported. Raised all over upconv.export, shown by the command line.
"""The one exception of upconv.export."""


class Refusal(ValueError):
    """The model, or an operation of it, that cannot be exported, and why."""
