"""Images to feature maps: backbones, the pyramid on top, their normalisation."""
