import numpy as np
import pytest

from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    """(20, 224, 224, 3) uint8: the natural images of `samples`."""
    images = load_data("samples")
    geometry = Geometry((224, 224), 256)
    return np.stack([geometry.prepare(images.read(i)) for i in range(len(images))])
