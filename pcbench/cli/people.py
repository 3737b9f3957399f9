"""`pcbench people`: a network and people on the same stimuli, at every timestep."""

from pathlib import Path

import click


@click.command()
@click.argument("stimuli", type=click.Path(path_type=Path))
@click.option("--trials", multiple=True, required=True, type=click.Path(path_type=Path), help="CSV file; repeat.")
@click.option("--mapping", required=True, type=click.Path(path_type=Path), help="JSON: category -> classes.")
@click.option("--model", required=True, help="A network with the 1,000 classes of ImageNet.")
@click.option("--weights", help="Tag of its weights. [default: the first at hand]")
@click.option("--timesteps", type=click.IntRange(min=0), help="T. [default: the model's]")
@click.option("--confidence", type=float, help="It decides when a category has this probability, not when it settles.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    stimuli: Path,
    trials: tuple[Path, ...],
    mapping: Path,
    model: str,
    weights: str | None,
    timesteps: int | None,
    confidence: float | None,
    device: str,
    as_json: bool,
) -> None:
    """Show the images below STIMULI to a network, and set its answers beside those of people to the same images.

    Trials are of the model-vs-human form (subj, session, trial, rt, object_response, category, condition, imagename).
    Of each condition and timestep: accuracies, error consistency (Cohen's kappa), and the rank correlation of people's
    reaction times with the timestep from which the network's answer stays.
    """
    import json

    import numpy as np
    from rich.console import Console

    from pcbench.analysis.decisions import crossed, settled
    from pcbench.analysis.humans import with_people
    from pcbench.analysis.trials import CLASSES, category_probabilities, read_mapping, read_trials, stimulus_of
    from pcbench.cli._grids import to_rich
    from pcbench.errors import UserError
    from pcbench.harness.stimuli import pictures_below, shown
    from pcbench.models.resolve import resolve
    from pcbench.report.tables import people_grid

    if confidence is not None and not 0 < confidence < 1:
        raise UserError(f"a confidence is a probability between 0 and 1, not {confidence:g}")
    people, classes, files = read_trials(trials), read_mapping(mapping), pictures_below(stimuli)
    resolved = resolve(model, weights)
    if resolved.num_classes != CLASSES:
        raise UserError(f"{model} has {resolved.num_classes} classes; the mapping is of the {CLASSES} of ImageNet")
    parts = [category_probabilities(part, classes) for part in shown(resolved, files, timesteps, device)]
    categories = np.concatenate(parts, axis=1)
    predictions = categories.argmax(axis=-1)
    shares = categories / categories.sum(axis=-1, keepdims=True)
    decided = settled(predictions) if confidence is None else crossed(shares.max(axis=-1), confidence)
    names = [stimulus_of(file.name) for file in files]
    found, absent = with_people(people, names, predictions, decided)
    if as_json:
        rows = [row for each in found for row in each.rows()]
        click.echo(
            json.dumps({"model": model, "weights": resolved.weights, "rows": rows, "not_shown": absent}, indent=1)
        )
    else:
        console = Console()
        for each in found:
            for part in people_grid(each, f"{model} [{resolved.weights}]").fitting(console.width):
                console.print(to_rich(part))
            for note in people_grid(each, model).notes:
                console.print(note, highlight=False, soft_wrap=True, markup=False)
            console.print()
    for name in absent:
        click.echo(f"warning: condition {name} was not shown to the network", err=True)
