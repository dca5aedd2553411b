"""finemask fine-tunes Mask R-CNN on your own labelled images."""
