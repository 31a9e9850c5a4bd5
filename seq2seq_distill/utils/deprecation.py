"""Arguments that have a new name: the old one works, and warns, until 0.3."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def renamed_arguments(**new_names: str) -> Callable[[Function], Function]:
    """Let a function take keyword arguments by their old names too.

    Args:
        new_names: the new name of each old one, `renamed_arguments(own="extensions")`.

    Raises:
        TypeError: the function is called with both names of an argument.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for old in new_names.keys() & kwargs.keys():
                new = new_names[old]
                if new in kwargs:
                    raise TypeError(f"{function.__qualname__}() got both {old!r} and its new name {new!r}")
                message = f"the argument {old!r} is now {new!r}; the old name will be removed in 0.3"
                warnings.warn(message, FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate
