"""promptzoo: every way of prompting a medical-imaging model, as MONAI bundles and one MONAI Label app.

The package is layered in floors (see ``setup.cfg``, section ``importlinter``): imports only go down.
"""
__version__ = "0.1.0"
