"""What ``predict`` writes: files of each image, files of all images, and the ledger by which a run goes on."""
