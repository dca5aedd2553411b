"""Tests of augmentations from Albumentations: without a look for updates."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # test files import it before the adapter does
