"""The one exception that means "the user can mend this".

The command line prints its message as a single sentence and exits with status 2; everything
else is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Bad input: the message names the file or value and says what would be accepted."""
