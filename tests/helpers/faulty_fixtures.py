"""A drawn dataset with planted label faults, and what a simulated detector finds on its images."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from label_faults import Planted, plant_faults, simulate_detections

from finemask.data.shapes import draw_shapes


@dataclass(frozen=True)
class Faulty:
    """Files of a dataset: the sound labels, those with faults, the detections; and the faults."""

    root: Path
    sound: Path
    faulty: Path
    results: Path
    planted: list[Planted]

    @property
    def images(self) -> Path:
        return self.root / "images"


@pytest.fixture(scope="package")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    root = draw_shapes(tmp_path_factory.mktemp("faulty") / "shapes", images=90, size=96, seed=3, val_fraction=0.02)
    sound = root / "annotations/train.json"
    document = json.loads(sound.read_text())
    rng = np.random.default_rng(7)
    spoilt, planted = plant_faults(document, 0.05, rng)
    paths = root / "faulty.json", root / "results.json"
    paths[0].write_text(json.dumps(spoilt))
    paths[1].write_text(json.dumps(simulate_detections(document, rng)))
    return Faulty(root, sound, *paths, planted)
