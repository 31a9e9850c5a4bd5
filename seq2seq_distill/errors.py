"""Mistakes of the user. The command line prints each as one line and exits with 2; a traceback is a bug of ours."""


class UserError(Exception):
    """Something the user can mend; the message names the flag or file, the value and the remedy, in one line."""


class ConfigError(UserError):
    """A flag or a config file says something impossible."""


class DataError(UserError):
    """A data source is missing, malformed, or does not fit the request."""


class ModelError(UserError):
    """A model cannot be loaded, is not supported, or does not fit the request."""
