"""``finemask serve``: a model over HTTP."""

import sys

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.ops.terminal import say
from finemask.workflows.serve_model import serve_model


def main(cfg: DictConfig) -> int:
    """Runs the verb until a signal: keys as in ``configs/serve.yaml``.

    Raises:
        FinemaskError: settings or a model file that cannot be used, an address that cannot be opened.
    """

    def tell(address: str) -> None:
        say(Console(), f"serving {cfg.model} at {address} (Ctrl-C ends it)")
        say(Console(), f"try: curl -F image=@photo.jpg {address}/predict")
        sys.stdout.flush()  # a log is read while this runs

    serve_model(plain(cfg), tell)
    return 0
