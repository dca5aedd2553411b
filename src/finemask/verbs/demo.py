"""``finemask demo``: a page on a model, in the browser."""

import sys

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.ops.terminal import say
from finemask.workflows.serve_model import serve_model


def main(cfg: DictConfig) -> int:
    """Runs the verb until a signal: keys as in ``configs/demo.yaml``.

    Raises:
        FinemaskError: settings or a model file that cannot be used, an address that cannot be opened.
    """

    def tell(address: str) -> None:
        say(Console(), f"the page is at {address} (Ctrl-C ends it)")
        sys.stdout.flush()  # a log is read while this runs

    serve_model(plain(cfg), tell, browser=cfg.browser)
    return 0
