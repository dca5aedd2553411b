"""Which proposals the box head trains on; one file a variant."""
