"""Glue between MONAI Label and promptzoo. Import it before MONAI Label: its imports are mended here."""
from promptzoo.core.autoload import mend_imports

mend_imports()
