"""Mends of other packages that must be in place before their first import.

``monailabel start_server`` imports MONAI Label, and with it pydicom_seg and torchvision, before it looks at the app it
shall serve: nothing in the app could mend their import. So :func:`mend_imports` is the entry point ``promptzoo`` of the
group ``torch.backends``, which torch calls at the end of its own import. Commands of promptzoo call it themselves.
"""
from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Sequence

from promptzoo.core.torchvision_shim import declare_operators

STORAGE_UIDS = "pydicom._storage_sopclass_uids"


class StorageUids(MetaPathFinder, Loader):
    """Makes ``pydicom._storage_sopclass_uids``, which pydicom 3 dropped and pydicom_seg 0.4.1 imports.

    It stands last on ``sys.meta_path``: where pydicom still has the module, this one is never asked.
    """

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """The module's spec, None for every other name."""
        return ModuleSpec(fullname, self) if fullname == STORAGE_UIDS else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the storage classes, which pydicom 3 keeps in ``pydicom.uid``."""
        uids = importlib.import_module("pydicom.uid")
        module.__dict__.update({name: value for name, value in vars(uids).items() if name.endswith("Storage")})


def mend_imports() -> None:
    """Put the mends in place; quick, harmless when repeated or when the packages are not installed."""
    if not any(isinstance(finder, StorageUids) for finder in sys.meta_path):
        sys.meta_path.append(StorageUids())
    declare_operators()
