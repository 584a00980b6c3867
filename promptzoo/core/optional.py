"""Imports that may be absent, with an error that names the feature and the extra to install."""
from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from promptzoo.core.errors import MissingDependencyError


def available(module: str) -> bool:
    """Whether ``module`` can be found, without importing it (parents of a dotted name are imported)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def require(module: str, feature: str, extra: str = "") -> ModuleType:
    """Import ``module`` for ``feature``.

    Args:
        module: dotted module name.
        feature: what the caller wants to do, for the message.
        extra: the pip extra of promptzoo that brings the package; empty if it is a base dependency.

    Raises:
        MissingDependencyError: if the module is not installed or fails to import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f"pip install 'promptzoo[{extra}]'" if extra else f"pip install {module.split('.')[0]}"
        raise MissingDependencyError(
            f"{feature} needs the package {module!r}: {error}. Install it with: {hint}.") from error
