"""The `pcbench` command: finds the verbs, and turns every failure into one line and an exit code."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

import click

from pcbench.errors import Interrupted, RunError, UserError, did_you_mean

OK, FAILED, BAD_INPUT = 0, 1, 2


class Verbs(click.Group):
    """A group whose commands are the modules of a package: `pcbench.cli.NAME` has the click command `command`.

    A module is imported when its verb is needed, for a fast --help; it imports what is heavy inside its functions.
    """

    package = "pcbench.cli"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the package's modules, in alphabetical order."""
        return sorted(
            module.name
            for module in iter_modules(import_module(self.package).__path__)
            if module.name != "app" and not module.name.startswith("_")
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"{self.package}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pcbench")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure (also: PCBENCH_DEBUG=1).")
def cli(debug: bool) -> None:
    """A robustness benchmark for image classifiers that have dynamics.

    Start with:  pcbench run --model pefficientnet-lite0 --suite imagenet-c
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the run failed, 2 bad input, 130 interrupted (143 by SIGTERM)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("PCBENCH_DEBUG") == "1"
    sys.exit(_run([word for word in words if word != "--debug"], debug))


def _run(words: list[str], debug: bool) -> int:
    try:
        code = cli.main(args=words, prog_name="pcbench", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT
    except BrokenPipeError:  # `pcbench models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (click.ClickException, UserError, RunError, KeyboardInterrupt, click.Abort) as error:
        if debug:
            raise
        text, code = _explain(error)
        click.echo(f"error: {' '.join(text.split())}", err=True)
        return code
    return code if isinstance(code, int) else OK


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case click.NoSuchOption():
            known = [name for option in error.ctx.command.params for name in option.opts] if error.ctx else []
            return f"no option {error.option_name}; {did_you_mean(error.option_name, known)}", BAD_INPUT
        case click.UsageError():
            text = error.format_message().rstrip(".")
            if text.startswith("No such command") and error.ctx and isinstance(error.ctx.command, click.Group):
                word = text.split("'")[1]
                return (
                    f"no command {word!r}; {did_you_mean(word, error.ctx.command.list_commands(error.ctx))}",
                    BAD_INPUT,
                )
            return f"{text} (see {error.ctx.command_path if error.ctx else 'pcbench'} --help)", BAD_INPUT
        case click.ClickException():
            return error.format_message(), BAD_INPUT
        case UserError():
            return str(error), BAD_INPUT
        case RunError():
            return str(error), FAILED
        case _:  # click turns a KeyboardInterrupt into an Abort
            cause = error.__cause__ or error
            number = cause.signal if isinstance(cause, Interrupted) else 2
            return str(cause) or "interrupted; the same command goes on from here", 128 + number
