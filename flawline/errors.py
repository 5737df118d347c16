"""The error that a person at the keyboard is meant to read."""


class FlawlineError(Exception):
    """Something the user can fix: names the file, row or key, what was found, what was expected
    and what to do. Shown without a traceback.

    Examples
    --------
    >>> from flawline import FlawlineError, load_config
    >>> try:
    ...     load_config({"detektors": {}}, "my.yaml")
    ... except FlawlineError as error:
    ...     print(str(error).splitlines()[0][:60])
    my.yaml: detectors: is required
    """
