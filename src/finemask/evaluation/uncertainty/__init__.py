"""How sure the numbers are: bootstrap and jackknife over images, and paired comparison of two models."""
