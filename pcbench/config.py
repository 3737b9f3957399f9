"""Every option of a run, once: what it means, and whether it decides results, names hardware, or is for show.

The command line, `pcbench.run`, the recorded request, the line that goes on with a run, the keys of cells and the check
of what can be compared all derive from the fields of `RunConfig`. Adding an option means adding a field here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from pcbench.errors import UserError, did_you_mean

Role = Literal["decides", "hardware", "show"]
# Where an option that decides results enters the keys of cells.
Enters = Literal["model", "data", "condition", "cell", "plan"]


@dataclass(frozen=True)
class Option:
    """What is known of an option besides its default.

    Attributes:
        role: "decides" results, names "hardware" (which changes rounding at most), or is for "show".
        help: one line.
        metavar: of its value on the command line; "" for a flag.
        kind: type of its value.
        enters: which key an option that decides results is part of.
        kinds: kinds of perturbations that it is a parameter of, and `param` its name there.
        known: the values that it may have, where they are few.
        least: the smallest value.
        repeats: given several times, for several values.
        path: whether its value names a place on this machine; a record shows the last part only.
    """

    role: Role
    help: str
    metavar: str = ""
    kind: type = str
    enters: Enters | None = None
    kinds: tuple[str, ...] = ()
    param: str = ""
    known: tuple[str, ...] = ()
    least: int | None = None
    repeats: bool = False
    path: bool = False


def _option(default: Any, role: Role, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"option": Option(role, help, **more)})


@dataclass(frozen=True)
class RunConfig:
    """What is asked of a run; see the help of each field (`pcbench run --help` shows the same)."""

    model: tuple[Any, ...] = _option(
        (),
        "decides",
        "Model (repeats), NAME or NAME@TAG: see `pcbench models`; also timm:NAME, torchvision:NAME, predify:NAME, "
        "averaging:NAME, diffusion:NAME, package.module:function. From Python also a network itself.",
        metavar="NAME[@TAG]",
        repeats=True,
        enters="model",
    )
    suite: tuple[str, ...] = _option(
        (),
        "decides",
        "Suite (repeats): see `pcbench suites`; or the path of a suite file.",
        metavar="NAME",
        repeats=True,
        enters="condition",
        path=True,
    )
    weights: str | None = _option(
        None,
        "decides",
        "Weights of the models that name none themselves; by default the first tag at hand. 'random' always is.",
        metavar="TAG",
        enters="model",
    )
    data: str | None = _option(
        None,
        "decides",
        "Data set: see `pcbench data`; or a folder of class folders, a .npz file, or the root of an ImageNet-C or "
        "CIFAR-C copy. By default what is at hand.",
        metavar="NAME|PATH",
        enters="data",
        path=True,
    )
    timesteps: int | None = _option(
        None,
        "decides",
        "Number of updates after the feedforward pass (t = 0); gives T + 1 answers. By default the suite's or the "
        "model's.",
        metavar="T",
        kind=int,
        least=0,
        enters="plan",
    )
    limit: int | None = _option(
        None,
        "decides",
        "Take N images only, evenly over classes; a smaller N takes some of a larger N's.",
        metavar="N",
        kind=int,
        least=1,
        enters="data",
    )
    seed: int = _option(0, "decides", "Of all random numbers.", metavar="S", kind=int, enters="plan")
    dtype: str = _option(
        "float32",
        "decides",
        "Arithmetic of the models (bfloat16: autocast).",
        metavar="float32|bfloat16",
        known=("float32", "bfloat16"),
        enters="plan",
    )
    tf32: bool = _option(
        False,
        "decides",
        "On CUDA, round the operands of float32 arithmetic to TF32: faster.",
        kind=bool,
        enters="cell",
    )
    dynamics: str | None = _option(
        None,
        "decides",
        "Ablation of predictive networks.",
        metavar="full|no-error|no-feedback|memory-only",
        known=("full", "no-error", "no-feedback", "memory-only"),
        enters="model",
    )
    feedforward: str | None = _option(
        None,
        "decides",
        "Feedforward weight of predictive networks, one for all PCoders or one for each.",
        metavar="B[,B...]",
        enters="model",
    )
    feedback: str | None = _option(None, "decides", "Feedback weight, likewise.", metavar="L[,L...]", enters="model")
    pc: str | None = _option(None, "decides", "Weight of the error term, likewise.", metavar="A[,A...]", enters="model")
    feedback_weights: str | None = _option(
        None,
        "decides",
        "File of feedback weights that `pcbench train feedback` made, for predictive networks of any configuration.",
        metavar="FILE",
        enters="model",
        path=True,
    )
    corruption_backend: str | None = _option(
        None,
        "decides",
        "Corruption engine: pcbench's own, or the package imagecorruptions.",
        metavar="native|reference",
        known=("native", "reference"),
        enters="condition",
        kinds=("corruption",),
        param="backend",
    )
    jpeg85: bool = _option(
        False,
        "decides",
        "Pass corrupted images through JPEG of quality 85, as the published ImageNet-C was.",
        kind=bool,
        enters="condition",
        kinds=("corruption",),
        param="jpeg85",
    )
    frost_textures: int | None = _option(
        None,
        "decides",
        "Textures that frost draws from: ImageNet-C's 5, or all 6.",
        metavar="5|6",
        kind=int,
        known=("5", "6"),
        enters="condition",
        kinds=("corruption",),
        param="frost_textures",
    )
    attack_gradient: str | None = _option(
        None,
        "decides",
        "Gradient through time that attacks follow; truncated is the published one.",
        metavar="exact|truncated",
        known=("exact", "truncated"),
        enters="condition",
        kinds=("attack", "attack-probe"),
        param="attack_gradient",
    )
    attack_source: str | None = _option(
        None,
        "decides",
        "Model that transferred attacks are crafted on; by default each model's own feedforward baseline.",
        metavar="NAME",
        enters="condition",
        kinds=("attack",),
        param="attack_source",
    )
    skip_bad_images: bool = _option(
        False,
        "decides",
        "Go on without images that cannot be decoded; they are named in run.json.",
        kind=bool,
        enters="data",
    )
    other_code: bool = _option(
        False,
        "decides",
        "Add to cells that another version of pcbench's numerics-relevant code computed. Each cell says which.",
        kind=bool,
        enters="plan",
    )
    batch_size: int | str = _option(
        "auto",
        "hardware",
        "Images at once; auto: what half of the free memory holds, up to what is useful. Halves by itself when memory "
        "runs out.",
        metavar="N|auto",
    )
    device: str = _option(
        "auto",
        "hardware",
        "Where the models run.",
        metavar="auto|cpu|cuda",
        known=("auto", "cpu", "cuda"),
    )
    compile: bool = _option(
        False,
        "hardware",
        "Use torch.compile for each model where it works and is measured to be faster.",
        kind=bool,
    )
    predictors: str = _option(
        "direct",
        "hardware",
        "How large predictors of predictive networks compute: direct convolutions, or by spectra (fft) where that "
        "needs fewer operations or was measured to be faster.",
        metavar="direct|fft|measured",
        known=("direct", "fft", "measured"),
    )
    workers: int | None = _option(
        None,
        "hardware",
        "Processes that perturb images; by default what suits the machine.",
        metavar="N",
        kind=int,
        least=0,
    )
    engine: str = _option(
        "local",
        "hardware",
        "What computes: this process, or the workers of a Ray cluster.",
        metavar="local|ray",
        known=("local", "ray"),
    )
    ray_address: str | None = _option(
        None,
        "hardware",
        "Running Ray cluster; by default one of this machine alone, that lasts as long as the run.",
        metavar="HOST:PORT|auto",
        path=True,  # names a machine
    )
    ray_workers: int | None = _option(
        None, "hardware", "Ray workers, each with the models; by default what fits.", metavar="N", kind=int, least=1
    )
    cpus_per_worker: float | None = _option(
        None, "hardware", "Cores of each Ray worker; by default an equal share.", metavar="C", kind=float
    )
    gpus_per_worker: float | None = _option(
        None, "hardware", "GPUs for each Ray worker, 1 by default; 0.5 lets two share one.", metavar="G", kind=float
    )
    shard: str | None = _option(
        None,
        "hardware",
        "Compute part I of N parts only. Parts may fill one DIR, or several that `pcbench merge` puts together.",
        metavar="I/N",
    )
    output: Path | None = _option(
        None,
        "show",
        "Directory of the results; by default runs/NAME. The same command goes on with a run that was interrupted, "
        "another one adds to it.",
        metavar="DIR",
        kind=Path,
        path=True,
    )
    figures: bool = _option(True, "show", "Draw nothing at the end.", kind=bool)
    quiet: bool = _option(False, "show", "Say nothing but notices, errors and where the results are.", kind=bool)
    log_level: str = _option(
        "warning",
        "show",
        "What to log on standard error: info says when each cell is finished, debug each batch. DIR/run.log has info "
        "in any case.",
        metavar="debug|info|warning|error",
        known=("debug", "info", "warning", "error"),
    )

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Name -> what is known of the option, in order."""
        return {each.name: each.metadata["option"] for each in fields(cls)}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Name -> default."""
        return {each.name: each.default for each in fields(cls) if each.default is not MISSING}

    @classmethod
    def of(cls, **arguments: Any) -> Self:
        """From keyword arguments as people give them: one name or several, text or numbers; checked.

        Raises:
            UserError: an option that there is not, or a value that it cannot have.
        """
        known = cls.options()
        for name in arguments:
            if name not in known:
                raise UserError(f"a run has no option {name!r}; {did_you_mean(name, known)}")
        config = cls(**{name: _settled(name, known[name], value) for name, value in arguments.items()})
        config._check()
        return config

    def _check(self) -> None:
        for name, what, lister in (("model", "model", "models"), ("suite", "suite", "suites")):
            given = getattr(self, name)
            if not given:
                raise UserError(f"no {what} given: --{what} NAME (pcbench {lister} lists them)")
            texts = [each for each in given if isinstance(each, str)]
            twice = [each for each in texts if texts.count(each) > 1]
            if twice:
                raise UserError(f"{what} {twice[0]!r} is given twice")
        if self.compile and self.predictors != "direct":
            raise UserError(
                f"--compile and --predictors {self.predictors}: what is compiled computes predictors directly; "
                "choose one"
            )
        if self.engine != "ray":
            ray = [n for n in ("ray_address", "ray_workers", "cpus_per_worker", "gpus_per_worker") if self._chosen(n)]
            if ray:
                raise UserError(f"{', '.join(map(flag, ray))}: for --engine ray alone")

    def _chosen(self, name: str) -> bool:
        return bool(getattr(self, name) != self.defaults()[name])

    def chosen(self, role: Role | None = None, enters: Enters | None = None) -> dict[str, Any]:
        """Name -> value of the options that differ from their defaults; of one role, or of one key."""
        return {
            name: getattr(self, name)
            for name, option in self.options().items()
            if self._chosen(name) and role in (None, option.role) and enters in (None, option.enters)
        }

    def model_options(self) -> dict[str, str]:
        """What is asked of the builders of networks that know it."""
        given = self.chosen(enters="model")
        return {name: value for name, value in given.items() if name not in ("model", "weights")}

    def overrides(self) -> dict[str, dict[str, Any]]:
        """Kind of perturbation -> parameters that the user chose for its conditions."""
        found: dict[str, dict[str, Any]] = {}
        for name, value in self.chosen(enters="condition").items():
            option = self.options()[name]
            for kind in option.kinds:
                found.setdefault(kind, {})[option.param] = value
        return found

    def settings(self) -> dict[str, Any]:
        """What enters the key of every cell by its name, besides the fields that each has."""
        return self.chosen(enters="cell")

    def words(self, *, public: bool = False) -> list[str]:
        """The command that asks for this run: `pcbench run ...`.

        Args:
            public: name places by their last part, so that the words say nothing of a machine or its user.
        """
        words = ["pcbench", "run"]
        for name, value in self.chosen().items():
            option = self.options()[name]
            if option.kind is bool:
                words.append(flag(name, negative=value is False))
                continue
            for one in value if option.repeats else [value]:
                text = str(one) if isinstance(one, str | int | float | Path) else type(one).__name__
                if public:
                    text = _public(text, option)
                words += [f"{flag(name)}={text}"] if text.startswith("-") else [flag(name), text]
        return words

    def recorded(self) -> dict[str, Any]:
        """What a record says was asked: the options that differ from their defaults, places by their last part."""
        found: dict[str, Any] = {}
        for name, value in self.chosen().items():
            option = self.options()[name]
            if option.role == "show":
                continue
            if option.repeats:
                found[name] = [_public(_name(one), option) for one in value]
            else:
                found[name] = _public(value, option) if isinstance(value, str) else value
        return found

    @classmethod
    def from_recorded(cls, recorded: Mapping[str, Any]) -> Self:
        """The request of a record; what it names by the last part of a path has to be found again by the user.

        Raises:
            UserError: it is none; records come from strangers.
        """
        return cls.of(**{str(name): value for name, value in recorded.items()})


def flag(name: str, *, negative: bool = False) -> str:
    """The option of the command line, e.g. "--batch-size"; of a switch that is on by default, "--no-figures"."""
    return f"--{'no-' if negative else ''}{name.replace('_', '-')}"


def _name(model: object) -> str:
    return model if isinstance(model, str) else type(model).__name__


def _public(text: str, option: Option) -> str:
    """Of a path only the last part, which names no machine or user; relative paths below this folder stay."""
    if option.metavar.startswith("HOST"):
        return "auto"
    head, mark, query = text.partition("?")
    if mark:  # a model with options, one of which may be a file
        pairs = (pair.partition("=") for pair in query.split("&"))
        return head + mark + "&".join(f"{key}{sign}{_last(value)}" for key, sign, value in pairs)
    return _last(text) if option.path else text


def _last(text: str) -> str:
    path = Path(text)
    outside = path.is_absolute() or text.startswith("~") or ".." in path.parts
    return path.name if outside else text


def _settled(name: str, option: Option, value: Any) -> Any:
    """A value as the field has it. Raises UserError."""
    if option.repeats:
        several = [value] if isinstance(value, str) or not isinstance(value, Iterable) or callable(value) else [*value]
        return tuple(several)
    if value is None:
        return None
    if option.kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{name} is {value!r}; it is true or false")
        return value
    if option.kind is Path:
        return Path(value)
    if option.known and str(value) not in option.known:
        raise UserError(
            f"{flag(name)}: no {name.replace('_', ' ')} {value!r}; {did_you_mean(str(value), option.known)}"
        )
    if option.kind in (int, float):
        if isinstance(value, bool):
            raise UserError(f"{name} is {value!r}; it is a number")
        try:
            number = option.kind(value)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{name} is {value!r}; it is a{'n integer' if option.kind is int else ' number'}") from None
        if option.kind is int and number != float(value):
            raise UserError(f"{name} is {value!r}; it is an integer")
        if option.least is not None and number < option.least:
            raise UserError(f"{name} is {number}; the least is {option.least}")
        return number
    if isinstance(value, list | tuple):  # 0.1,0.2 from Python: feedback=[0.1, 0.2]
        return ",".join(f"{one!r}" for one in value)
    text = str(value)
    return int(text) if name == "batch_size" and text.lstrip("-").isdecimal() else text
