"""What stops the stack, told in one message."""


class Problem(Exception):
    """What was found, what was expected, how to mend it."""
