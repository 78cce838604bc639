"""Make ``cli`` the package: pytest has named this folder's parent so as well."""

import importlib
import sys

del sys.modules["cli"]
importlib.import_module("cli")
