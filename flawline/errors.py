"""The error that a person at the keyboard is meant to read."""


class FlawlineError(Exception):
    """An error that the user can fix, shown without a traceback.

    Its message names the file, row or key, what was found, what was expected and what to do.

    Examples
    --------
    >>> from flawline import FlawlineError, load_config
    >>> try:
    ...     load_config({"detektors": {}}, "my.yaml")
    ... except FlawlineError as error:
    ...     print(str(error).splitlines()[0][:60])
    my.yaml: detectors: is required
    """
