"""The one reader of COCO: annotation files as columns, the faults in them, and writing them."""
