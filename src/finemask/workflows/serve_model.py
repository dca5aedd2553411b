"""Serving a model over HTTP, with its page or without."""

import os
import threading
import warnings
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from finemask.errors import ConfigError
from finemask.inference.predictor import load
from finemask.ops.files.run_folders import MODEL_FILE, find_in_run, is_run_folder
from finemask.ops.images.image_reading import ImageReading
from finemask.serving.application import build_application
from finemask.serving.http_server import address_of_socket, is_loopback, log_requests, open_socket, run_server
from finemask.serving.server_settings import ServerSettings
from finemask.workflows.detect_split import with_options

TOKEN_VARIABLE = "FINEMASK_TOKEN"
_MIB = 2**20


def serve_model(options: Mapping[str, Any], tell: Callable[[str], None], *, browser: bool = False) -> None:
    """Serves until a signal.

    Args:
        options: as in ``configs/serve.yaml``.
        tell: is given the address when requests will be answered.
        browser: whether to open it.

    Raises:
        FinemaskError: settings or a model file that cannot be used, an address that cannot be opened.
    """
    settings = settings_of(options)
    with open_socket(options["host"], options["port"]) as opened:
        predictor = load(options["model"], options["device"], options["trust"])
        predictor.reading = ImageReading.of(options["image"], predictor.reading)
        predictor.model = with_options(predictor.model, predictor.header, options).to(predictor.device).eval()
        application = build_application(predictor, settings)
        log_requests(options["log"])
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the server judges sizes by itself
        address = address_of_socket(opened)
        tell(address)
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        run_server(application, opened, options["max_connections"])


def settings_of(options: Mapping[str, Any]) -> ServerSettings:
    """The settings that options come to.

    Raises:
        ConfigError: the server would be open to others without a token, or the token cannot be read.
    """
    token = read_token(options)
    if token is None and not options["anonymous"] and not is_loopback(options["host"]):
        raise ConfigError(
            f"host={options['host']} can be reached from other machines, and there is no token",
            remedy=f"Set the environment variable {TOKEN_VARIABLE}, or give token_file=FILE; anonymous=true lets "
            "everybody in.",
        )
    files = options["label_studio_files"]
    if files is not None and not Path(files).is_dir():
        raise ConfigError("there is no such folder", where=f"label_studio_files={files}", remedy="Check the path.")
    if not str(options["label_studio_url"] or "http://").startswith(("http://", "https://")):
        raise ConfigError(
            f"label_studio_url={options['label_studio_url']}", remedy="It is such as http://127.0.0.1:8080."
        )
    return ServerSettings(
        name=model_name(options["model"]),
        threshold=options["threshold"],
        tile=options["tile"],
        overlap=options["overlap"],
        token=token,
        allowed_hosts=tuple(options["allowed_hosts"]),
        cors_origins=tuple(origin.rstrip("/") for origin in options["cors_origins"]),
        allow_urls=options["allow_urls"],
        max_bytes=options["max_mb"] * _MIB,
        max_pixels=options["max_megapixels"] * 10**6,
        buffer_bytes=max(options["buffer_mb"], options["max_mb"]) * _MIB,
        queue_size=options["queue_size"],
        at_once=options["at_once"],
        timeout_s=options["timeout_s"],
        label_studio_url=options["label_studio_url"],
        label_studio_files=None if files is None else Path(files),
    )


def model_name(path: Path | str) -> str:
    """What a model is called: as its run, since the files of runs have one name; else as its file."""
    file = find_in_run(path, MODEL_FILE).resolve()
    return file.parents[1].name if is_run_folder(file.parent) else file.name


def read_token(options: Mapping[str, Any]) -> str | None:
    """The token that clients must show: typed, of a file, or of the environment; None: none.

    Raises:
        ConfigError: the file cannot be read, or the token is one that no header can carry.
    """
    typed, file = options["token"], options["token_file"]
    if typed is not None and file is not None:
        raise ConfigError("token and token_file are both given", remedy="Give one of them.")
    where = "token"
    if file is not None:
        where = f"token_file={file}"
        try:
            typed = Path(file).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(f"cannot be read ({reason})", where=where, remedy="Check the path.") from error
    elif typed is None:
        typed, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
    if typed is None:
        return None
    if not (typed.isascii() and typed.isprintable() and typed.strip() and " " not in typed):
        raise ConfigError(
            "the token is empty, or has spaces or other letters than ASCII's",
            where=where,
            remedy="Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    return str(typed)
