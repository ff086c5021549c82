"""The version is that of the installed package."""

from importlib.metadata import version

import trionet


def test_the_version_is_known():
    assert trionet.__version__ == version("trionet")
