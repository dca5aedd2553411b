"""Lightning callbacks of a run: checkpoints, COCO evaluation, progress, speed, validation pictures."""
