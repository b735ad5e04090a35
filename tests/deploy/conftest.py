"""A copy of deploy/ to be broken, and the settings of the server that is tried."""

import re
import shutil
import subprocess

import pytest
from agreement import Settings
from checks import BINARY, DEPLOY


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    return tmp_path / "deploy"


@pytest.fixture(scope="session")
def settings():
    told = subprocess.run([BINARY, "serve", "--help"], check=True, capture_output=True, text=True).stdout
    return Settings(re.sub(r"\s+", " ", told))
