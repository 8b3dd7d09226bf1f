"""Where Ray is not installed. What it does where it is: tests/e2e/test_ray_engine.py."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from p2pfinetune.errors import OptionError
from p2pfinetune.simulation.ray_engine import ray_cluster


@pytest.mark.parametrize("address", ["", "auto"])
def test_asking_for_a_cluster_says_what_to_install_and_leaves_nothing_behind(address, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(os.environ)

    with pytest.raises(OptionError, match="not installed") as caught, ray_cluster(address):
        pass

    assert caught.value.hint == "pip install 'peerd[ray]'"
    assert dict(os.environ) == before
    assert list(Path(tmp_path).iterdir()) == []
