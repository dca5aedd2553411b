"""``finemask share``: a model file with its card, in a folder or on the Hugging Face Hub."""

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.ops.terminal import say
from finemask.workflows.share_model import share_model


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/share.yaml``.

    Raises:
        FinemaskError: the model file cannot be used, the folder holds something else, or the Hub refuses.
    """
    console = Console()
    shared = share_model(plain(cfg))
    for path in shared.paths:
        say(console, f"wrote {path}")
    if shared.page is not None:
        say(console, f"uploaded to {shared.page}")
        say(console, f"to use it: finemask predict model={cfg.to} source=photos/")
    if cfg.license is None:
        say(console, "The card says that no licence was stated: license=apache-2.0, for example, states one.")
    return 0
