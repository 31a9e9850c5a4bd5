"""What every test shares: no network, one thread, fixed seeds, a cache folder of its own."""

import os
import random
from collections.abc import Iterator

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, so before all others
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.processes import Server

torch.set_num_threads(1)
settings.register_profile("tests", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-families", action="store_true", help="run tests on all families, not on representatives")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all-families"):
        return
    left_out = [item for item in items if item.get_closest_marker("all_families")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to the user's cache. The processes of pytest-xdist share one, so that each built-in data set
    is made once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQ2SEQ_DISTILL_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def process_server() -> Iterator[None]:
    """Nothing that was started for jobs outlives the tests."""
    yield
    Server.stop()


@pytest.fixture(autouse=True)
def seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
