"""Models do not survive a fork: their threads exist in the parent only.

A web server that loads a model and then forks its workers (`gunicorn --preload`) gives each a copy, whose
destruction waits for those threads for ever. A copy in a child is therefore never destroyed, and
`check_process` turns its use into an error.
"""

import ctypes
import os
import weakref
from typing import Any

from emotion_runtime.errors import EmotionError

NO_COPY = (
    "an EmotionRuntime cannot be copied or sent to another process; make one in each process, for example "
    "with the initializer of a pool"
)

_models: "weakref.WeakSet[Any]" = weakref.WeakSet()
_hooks: list[bool] = []  # not empty: the hook is registered


def keep_in_children(model: Any) -> None:
    """Do not destroy a model in processes that are forked from this one.

    Args:
        model: An object that runs threads or holds a device, directly or through its attributes.
    """
    if not _hooks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_all)
        _hooks.append(True)
    _models.add(model)


def _keep_all() -> None:
    # One reference too many: neither `del` nor the end of the interpreter destroys the object.
    for model in list(_models):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))


def check_process(made_in: int) -> None:
    """Check that models are used in the process that loaded them.

    Args:
        made_in: Id of the process that loaded them.

    Raises:
        EmotionError: This process is another one, forked from it.
    """
    if os.getpid() != made_in:
        raise EmotionError(
            f"this EmotionRuntime was made in process {made_in} and is used in process {os.getpid()}, which "
            "was forked from it; models do not survive a fork: make one EmotionRuntime in each process"
        )
