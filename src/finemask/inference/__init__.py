"""From a model file and pictures to instances, overlays and files."""
