"""Controls for networks with dynamics: "averaging:NAME" and "diffusion:NAME", NAME a network without."""

from pcbench.models.controls import averaging, control_spec, diffusion
from pcbench.models.spec import MODEL_SOURCES, ModelSpec


def averaging_spec(rest: str) -> ModelSpec:
    """The model "averaging:NAME"."""
    return control_spec(
        "averaging",
        rest,
        "at t, the mean probabilities of the plain pass and t passes with noise",
        averaging,
        {
            "sigma": "standard deviation of the noise, after normalisation; 0.1 by default",
            "noise_seed": "of the noise, which is the same for all images; 0 by default",
        },
    )


def diffusion_spec(rest: str) -> ModelSpec:
    """The model "diffusion:NAME"."""
    return control_spec(
        "diffusion",
        rest,
        "at t, the answer to the image after a Gaussian blur of variance t sigma^2",
        diffusion,
        {"sigma": "standard deviation of the blur at t = 1, in pixels; 0.5 by default"},
    )


MODEL_SOURCES.register("averaging", averaging_spec)
MODEL_SOURCES.register("diffusion", diffusion_spec)
