"""Programs that the tests run and pip does not bring."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(*names: str) -> str:
    """The path of a program that .ci/run installs, by any of its names. Without it CI fails, and a developer's run skips."""
    for name in names:
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail(f"{names[0]} is not installed; .ci/run installs it")
    pytest.skip(f"{names[0]} is not installed")
