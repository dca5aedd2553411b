"""One file a verb: `main(cfg)` gets the composed configuration and returns the exit code."""
