"""Where files of weights come from: this package, an installed package, a library's own cache, or the user's folder.

Every source answers `at_hand()` without network, and `path()` gets the file by the means of the library that owns it.
Setting HF_HUB_OFFLINE=1 forbids every download. Messages name places as a user would type them ("~", "$TORCH_HOME"),
because they are also recorded in runs, which hold no absolute path.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pcbench.errors import UserError


@cache
def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal. Cached: weight files do not change under a running process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_folder() -> Path:
    """The user's folder of weights in pcbench's own format: PCBENCH_WEIGHTS, or the user's cache folder."""
    named = os.environ.get("PCBENCH_WEIGHTS")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("pcbench") / "weights"


def shown(path: Path, variables: Sequence[str] = ()) -> str:
    """A path as one would type it: from the first of the environment variables that it lies under, or from home.

    >>> shown(Path.home() / "weights")
    '~/weights'
    """
    roots = [(f"${name}", Path(os.environ[name]).expanduser()) for name in variables if os.environ.get(name)]
    for name, root in [*roots, ("~", Path.home())]:
        if path.is_relative_to(root):
            return (Path(name) / path.relative_to(root)).as_posix()
    return path.as_posix()


def offline() -> bool:
    """Whether downloads are forbidden (HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True)
class InstalledFile:
    """A file inside an installed Python package, pcbench or another.

    Attributes:
        package: import name of the package.
        file: path inside it.
        sha256: expected checksum, hexadecimal.
        distribution: what to install when the package is missing.
        version: of the distribution that has this very file; "" where that need not be said.
    """

    package: str
    file: str
    sha256: str
    distribution: str = "pcbench"
    version: str = ""

    @property
    def _install(self) -> str:
        return f"pip install {self.distribution}{f'=={self.version}' if self.version else ''}"

    def _locate(self) -> Path | None:
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / self.file
        return path if path.is_file() else None

    def at_hand(self) -> bool:
        """Whether the file is there."""
        return self._locate() is not None

    def describe(self) -> str:
        """Which file, of which distribution."""
        return f"{self.file} of the package {self.package} ({self._install})"

    def path(self) -> Path:
        """The file, its checksum verified. Raises UserError when it is missing or damaged."""
        path = self._locate()
        if path is None:
            raise UserError(f"weights are missing: {self.describe()}")
        if sha256(path) != self.sha256:
            raise UserError(
                f"weights {path.name} of the package {self.package} are damaged, or of another version: checksum "
                f"{sha256(path)[:12]}, expected {self.sha256[:12]}; {self._install}"
            )
        return path


@dataclass(frozen=True)
class UserFile:
    """A file in the user's folder of weights: imported, or trained here.

    Attributes:
        file: its name in `weights_folder()`, in pcbench's own format, which carries its checksum.
        get: the command that puts it there.
    """

    file: str
    get: str

    def at_hand(self) -> bool:
        """Whether the file is there."""
        return (weights_folder() / self.file).is_file()

    def describe(self) -> str:
        """Which file, where, and the command that makes it."""
        return f"{shown(weights_folder() / self.file, ['PCBENCH_WEIGHTS'])} (make it with: {self.get})"

    def path(self) -> Path:
        """The file; `checkpoints.load` verifies it. Raises UserError when it is missing."""
        if not self.at_hand():
            raise UserError(f"weights are missing: {self.describe()}")
        return weights_folder() / self.file


@dataclass(frozen=True)
class TorchvisionFile:
    """Weights that torchvision publishes, in torch.hub's cache.

    Attributes:
        weights: as torchvision names them, e.g. "VGG16_Weights.IMAGENET1K_V1".
    """

    weights: str

    def _url(self) -> str:
        from torchvision.models import get_weight

        url: str = get_weight(self.weights).url
        return url

    def at_hand(self) -> bool:
        """Whether the file is in the cache."""
        return _hub_path(self._url()).is_file()

    def describe(self) -> str:
        """Which file, where it is looked for, and where it is downloaded from."""
        return _hub_describe(self._url())

    def path(self) -> Path:
        """The file, downloaded if need be, its checksum verified. Raises UserError when that fails."""
        return _hub_get(self._url())


@dataclass(frozen=True)
class TimmFile:
    """Weights that timm publishes, in the cache of the Hugging Face Hub (or torch.hub's, for the few not on the Hub).

    Attributes:
        model: timm's name with the tag of the weights, e.g. "efficientnet_b0.ra_in1k".
    """

    model: str

    def _config(self) -> Any:
        from timm.models import get_pretrained_cfg

        try:
            config = get_pretrained_cfg(self.model)
        except RuntimeError:  # the architecture has no such tag
            config = None
        if config is None or not (config.hf_hub_id or config.url):
            raise UserError(f"timm publishes no weights {self.model!r}")
        return config

    def _cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        config = self._config()
        if not config.hf_hub_id:
            path = _hub_path(config.url)
            return path if path.is_file() else None
        for name in _timm_files(config):
            found = try_to_load_from_cache(config.hf_hub_id, name)
            if isinstance(found, str):
                return Path(found)
        return None

    def at_hand(self) -> bool:
        """Whether the file is in the cache."""
        return self._cached() is not None

    def describe(self) -> str:
        """Which file, where it is looked for, and where it is downloaded from."""
        config = self._config()
        if not config.hf_hub_id:
            return _hub_describe(config.url)
        from huggingface_hub.constants import HF_HUB_CACHE

        folder = Path(HF_HUB_CACHE) / f"models--{config.hf_hub_id.replace('/', '--')}"
        place = shown(folder, ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"])
        return f"{_timm_files(config)[0]} in {place} (downloaded from the Hugging Face Hub: {config.hf_hub_id})"

    def path(self) -> Path:
        """The file, downloaded if need be. Raises UserError when that fails."""
        cached = self._cached()
        if cached is not None:
            return cached
        config = self._config()
        if not config.hf_hub_id:
            return _hub_get(config.url)
        if offline():
            raise UserError(f"weights are missing: {self.describe()}; HF_HUB_OFFLINE forbids the download")
        from huggingface_hub import hf_hub_download
        from huggingface_hub.constants import ENDPOINT
        from huggingface_hub.errors import RemoteEntryNotFoundError

        for name in _timm_files(config):
            try:
                _reach(ENDPOINT)
                return Path(hf_hub_download(config.hf_hub_id, name))
            except RemoteEntryNotFoundError:
                continue
            except Exception as error:  # the Hub's client raises errors of several libraries when there is no network
                raise _unreachable(self.describe(), error) from error
        raise UserError(f"weights are missing: {self.describe()}: the Hub has no such file")


def downloads(sources: Iterable[object]) -> bool:
    """Whether what is missing of some files is fetched by asking for it, unless downloads are forbidden."""
    missing = [source for source in sources if not source.at_hand()]  # type: ignore[attr-defined]  # all sources have it
    return not offline() and all(isinstance(source, TorchvisionFile | TimmFile) for source in missing)


def _timm_files(config: Any) -> list[str]:
    if config.hf_hub_filename:
        return [config.hf_hub_filename]
    return ["model.safetensors", "pytorch_model.bin"]  # in timm's own order


def _hub_path(url: str) -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _hub_describe(url: str) -> str:
    return f"{shown(_hub_path(url), ['TORCH_HOME'])} (downloaded from {url})"


def _hub_get(url: str) -> Path:
    """A file of torch.hub's cache. Its name ends in the first digits of its checksum, which are verified."""
    path = _hub_path(url)
    prefix = path.stem.rpartition("-")[2]
    if not path.is_file():
        if offline():
            raise UserError(f"weights are missing: {_hub_describe(url)}; HF_HUB_OFFLINE forbids the download")
        import torch

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=True)
        except (OSError, RuntimeError) as error:
            raise _unreachable(_hub_describe(url), error) from error
    if not sha256(path).startswith(prefix):
        raise UserError(f"weights {path.name} are damaged: checksum {sha256(path)[:8]}; delete the file and try again")
    return path


def _reach(endpoint: str) -> None:
    """Ask a server for a sign of life, once: the Hub's client would retry for half a minute, noisily."""
    with suppress(HTTPError):  # an answer too
        urlopen(Request(endpoint, method="HEAD"), timeout=10).close()  # noqa: S310 - the Hub's own constant, https


def _unreachable(description: str, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"weights are missing: {description}; the download failed: {reason}")
