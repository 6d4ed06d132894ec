"""Exceptions that end a command with one sentence; everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """Bad input (exit status 2): the message names the file or value and says what would be accepted."""


class Stopped(Exception):
    """Ctrl-C or SIGTERM (exit status 130): the message says where the work was saved."""
