"""`pcbench check`: whether a plug-in does what everything else relies on."""

import click

EXAMPLES = """\b
Examples:
  pcbench check mymodel:net
  pcbench check my-corruption
  pcbench check pvgg16-cifar --weights random
"""


@click.command(epilog=EXAMPLES)
@click.argument("thing")
@click.option("--kind", metavar="KIND", help="model, corruption, attack, data or perturbation, where names clash.")
@click.option("--weights", metavar="TAG", help="Of a model.  [default: the first at hand, else random]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn at random.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(thing: str, kind: str | None, weights: str | None, seed: int, as_json: bool) -> None:
    """Put THING to the tests of its kind: a model, a corruption, an attack, a data set or a kind of perturbation.

    THING is a name, as --model, --data or a suite file has it; package.module:thing too. Exits with 1 when something
    does not hold.
    """
    import json
    from dataclasses import asdict

    from pcbench.errors import RunError
    from pcbench.harness.check import check

    checked = check(thing, kind, weights, seed)
    if not as_json:
        click.echo(f"{checked.kind} {checked.name}")
    findings = []
    for finding in checked.findings:
        findings.append(finding)
        if not as_json:
            mark = {True: "ok", False: "NO", None: "--"}[finding.holds]
            click.echo(f"  {mark}  {finding.test}{': ' if finding.says else ''}{finding.says}")
    if as_json:
        about = {"kind": checked.kind, "name": checked.name, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(about, indent=2))
    failed = sum(finding.holds is False for finding in findings)
    if failed:
        raise RunError(f"{thing} does not conform: {failed} of {len(findings)} tests do not hold")
    if not as_json:
        click.echo(f"{thing} conforms: {sum(finding.holds is True for finding in findings)} tests hold")
