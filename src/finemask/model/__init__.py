"""From (image, Target) to losses or Detections."""

from finemask.lean_torchvision import torchvision  # noqa: F401  # before the modules here import it
