"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Bad input, said in one clear sentence that names the file or option. Commands print it and exit non-zero."""
