"""Networks that give a list of logits over time, for a number of steps that is theirs to name and to count."""

from torch import Tensor, nn

from pcbench.errors import UserError


class OverTime(nn.Module):
    """A recurrent network as `pcbench.network` wants it: forward(images, timesteps) -> (timesteps + 1, B, classes).

    Args:
        network: gives logits (B, classes) for every step, as a list, a tuple or a tensor (steps, B, classes).
        argument: name of its argument for the number of steps; None for a network that always makes as many.
        first: how many of its answers come before the image has reached the readout; they are left out, so that t = 0
            is the first answer to the image.

    Example::

        @pcbench.network(size=32, classes="cifar10", normalises=True, timesteps=8)
        def net():
            return OverTime(MyNet(), argument="n_steps", first=2)  # asks for n_steps = timesteps + 1 + 2
    """

    def __init__(self, network: nn.Module, argument: str | None = None, first: int = 0) -> None:
        super().__init__()
        self.network = network
        self.argument = argument
        self.first = first

    def forward(self, images: Tensor, timesteps: int) -> list[Tensor]:
        """See above. Raises UserError: it gives fewer answers."""
        wanted = timesteps + 1 + self.first
        found = self.network(images) if self.argument is None else self.network(images, **{self.argument: wanted})
        answers = list(found)
        if len(answers) < wanted:
            raise UserError(
                f"{type(self.network).__name__} gives {len(answers)} answers, of which the first {self.first} are left "
                f"out; t = 0..{timesteps} are asked for"
            )
        return answers[self.first : wanted]
