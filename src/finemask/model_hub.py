"""Models on the Hugging Face Hub: ``hf://OWNER/NAME`` in the place of a model file, and the way there."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from finemask.errors import ConfigError, MissingExtraError, ModelFileError

log = logging.getLogger(__name__)

_SCHEME = re.compile(r"hf:/{1,2}")  # a Path has lost one of the slashes
_WORD = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_ADDRESS = re.compile(rf"(?P<repo>{_WORD}/{_WORD})(?:@(?P<revision>[^/@\s]+))?(?:/(?P<file>[^@\s]+))?")
_REACHED_S = 5.0
FORM = "hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME/FILE"


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A model on the Hub.

    Args:
        repo: ``OWNER/NAME``.
        revision: a branch, tag or commit; None: the newest of the main branch.
        file: in the repository; None: its model file.
    """

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repo}{revision}{f'/{self.file}' if self.file else ''}"


def hub_address(path: Path | str) -> HubAddress | None:
    """What ``hf://OWNER/NAME[@REVISION][/FILE]`` means; None for anything that does not begin so.

    Raises:
        ConfigError: it begins so, and does not go on so.
    """
    text = str(path).replace("\\", "/")
    scheme = _SCHEME.match(text)
    if scheme is None:
        return None
    found = _ADDRESS.fullmatch(text[scheme.end() :].rstrip("/"))
    if found is None or ".." in text or "--" in found["repo"]:
        raise ConfigError("this is no address of a model on the Hugging Face Hub", where=text, remedy=f"Write {FORM}.")
    return HubAddress(found["repo"], found["revision"], found["file"])


def download(address: HubAddress, default_file: str) -> Path:
    """The file on this machine: fetched if there is a newer one, else out of the cache of ``huggingface_hub``.

    Without a network, or with ``HF_HUB_OFFLINE=1``, the cache alone is asked.

    Args:
        address: of the model.
        default_file: what is meant where the address names no file.

    Raises:
        MissingExtraError: ``huggingface_hub`` is not installed.
        ModelFileError: there is no such model, revision or file, it may not be read, or cannot be reached.
    """
    _need_hub(str(address))
    from huggingface_hub import errors, hf_hub_download
    from huggingface_hub.constants import is_offline_mode

    file = address.file or default_file
    offline = is_offline_mode()
    reachable = not offline and _is_reachable()
    page = f"{_endpoint()}/{address.repo}"
    try:
        path = Path(hf_hub_download(address.repo, file, revision=address.revision, local_files_only=not reachable))
    except errors.GatedRepoError:
        what, remedy = "its owner wants to be asked first", f"Ask at {page}, then log in with: hf auth login"
    except errors.RepositoryNotFoundError:
        what = "there is no such model on the Hugging Face Hub, or it is private"
        remedy = "Check the name. For a private one log in with: hf auth login, or set HF_TOKEN"
    except errors.RevisionNotFoundError:
        what, remedy = f"it has no revision {address.revision}", f"Its branches and tags are listed at {page}"
    except errors.LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        what = f"its {file} is not in the cache of this machine, and {why}"
        remedy = f"Connect once, or bring {page}/resolve/{address.revision or 'main'}/{file} and give its path"
    except errors.EntryNotFoundError:
        what = f"it has no {file}"
        remedy = f"Models of finemask have one; {page}/tree/main lists what is there. A file is named with {FORM}"
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        what, remedy = f"the Hub answered with status {status}", "Try again later."
    else:
        if not reachable and not offline:
            log.warning("%s: the Hub cannot be reached; taken from the cache: %s", address, path)
        return path
    raise ModelFileError(what, where=address, remedy=remedy)


def upload(folder: Path, address: HubAddress, *, private: bool) -> str:
    """Brings a folder's files to a repository, which is made where there is none.

    Args:
        folder: its files go to the top of the repository.
        address: of the repository.
        private: whether a repository that is made anew is seen by its owner alone; another one stays as it is.

    Returns:
        The address of its page.

    Raises:
        MissingExtraError: ``huggingface_hub`` is not installed.
        ConfigError: nobody is logged in, may not write there, or the Hub cannot be reached.
    """
    _need_hub(str(address))
    from huggingface_hub import HfApi, errors, get_token

    if get_token() is None:
        raise ConfigError(
            "nobody is logged in to the Hugging Face Hub",
            where=address,
            remedy="Log in with: hf auth login, or set HF_TOKEN to a token that may write",
        )
    if not _is_reachable():
        raise ConfigError(
            f"the Hub cannot be reached at {_endpoint()}",
            where=address,
            remedy="Check the network, or write a folder: to=FOLDER, to be brought there later",
        )
    api = HfApi(library_name="finemask")
    try:
        api.create_repo(address.repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo,
            folder_path=folder,
            revision=address.revision,
            commit_message="Model file and card, written by finemask",
        )
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        denied = status in (401, 403)
        raise ConfigError(
            "whoever is logged in may not write there" if denied else f"the Hub answered with status {status}",
            where=address,
            remedy="Check the owner's name, and that the token may write." if denied else "Try again later.",
        ) from error
    except ValueError as error:  # of a card whose metadata the Hub does not take
        why = " ".join(line.strip("- ") for line in str(error).splitlines()[1:]) or str(error)
        raise ConfigError(
            f"the Hub does not take the card: {why}", where=address, remedy="Check license=; it lists those it knows."
        ) from error
    return f"{_endpoint()}/{address.repo}"


def _need_hub(needed_for: str) -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "hub", needed_for=needed_for) from error


def _endpoint() -> str:
    from huggingface_hub.constants import ENDPOINT

    return ENDPOINT


def _is_reachable() -> bool:
    """Whether the Hub answers at all; its own client would try for half a minute, and say so on each try."""
    try:
        with urlopen(Request(_endpoint(), method="HEAD"), timeout=_REACHED_S):
            return True
    except HTTPError:
        return True
    except (OSError, ValueError):
        return False
