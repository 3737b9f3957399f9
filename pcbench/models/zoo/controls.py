"""Controls for networks with dynamics: "averaging:NAME" and "diffusion:NAME", NAME a network without."""

from collections.abc import Mapping

from pcbench.models.controls import averaging, control_spec, diffusion
from pcbench.models.options import Option, number, whole
from pcbench.models.spec import MODEL_SOURCES, ModelSpec


def averaging_spec(rest: str, _: Mapping[str, object]) -> ModelSpec:
    """The model "averaging:NAME"."""
    return control_spec(
        "averaging",
        rest,
        "at t, the mean probabilities of the plain pass and t passes with noise",
        averaging,
        {
            "sigma": Option("standard deviation of the noise, after normalisation; 0.1 by default", number),
            "noise_seed": Option("of the noise, which is the same for all images; 0 by default", whole),
        },
    )


def diffusion_spec(rest: str, _: Mapping[str, object]) -> ModelSpec:
    """The model "diffusion:NAME"."""
    return control_spec(
        "diffusion",
        rest,
        "at t, the answer to the image after a Gaussian blur of variance t sigma^2",
        diffusion,
        {"sigma": Option("standard deviation of the blur at t = 1, in pixels; 0.5 by default", number)},
    )


MODEL_SOURCES.register("averaging", averaging_spec)
MODEL_SOURCES.register("diffusion", diffusion_spec)
