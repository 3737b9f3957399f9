"""A backbone cut at named modules: each module's output is handed over, and what comes back goes on.

Where the backbone can be traced with torch.fx, what does not depend on any of the modules (the first stage, and
constants) becomes one function, computed once per input, and the rest another, run at every timestep. Only modules
that contain a cut module are traced into; everything else is called as it is. A backbone that cannot be traced runs
whole at every timestep, with forward hooks that live as long as one sweep.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from pcbench.errors import UserError, did_you_mean

Exchange = Callable[[int, Tensor], Tensor]
"""(index of the cut module, its output) -> what the network goes on with."""

_MOVED = {"act1": "bn1"}  # timm has moved activations into normalisations since Predify's files were written


class Holder(nn.Module):
    """A module with the network in its attribute `backbone`."""

    backbone: nn.Module


class Cut(ABC):
    """How to run a backbone in two parts. Holds no module: the holder of the backbone is handed in at each call."""

    @abstractmethod
    def first(self, holder: Holder, x: Tensor) -> tuple[Any, ...]:
        """What depends on the input alone: the values that `rest` needs."""

    @abstractmethod
    def rest(self, holder: Holder, values: Sequence[Any], exchange: Exchange) -> Tensor:
        """The rest of the network, calling `exchange` once per cut module. Returns its output."""


class TracedCut(Cut):
    """A cut by torch.fx: the first stage runs once per input.

    Args:
        holder: a module whose attribute `backbone` is the network.
        modules: the modules to cut at, submodules of the backbone.

    Raises:
        UserError: a module is called twice, or returns no tensor.
        Exception: whatever torch.fx raises for a network that it cannot trace.
    """

    def __init__(self, holder: Holder, modules: Sequence[nn.Module]) -> None:
        root = _Root(holder.backbone)
        tracer = _Tracer(modules)
        first, rest = _split(tracer.trace(root))
        # The classes' functions, not the graph modules: those would hold references into the backbone that go stale
        # when it is moved, copied or replicated. The code reaches everything as holder.backbone.NAME.
        self._first: Callable[..., tuple[Any, ...]] = type(fx.GraphModule(root, first)).forward
        self._rest: Callable[..., Tensor] = type(fx.GraphModule(root, rest)).forward

    def first(self, holder: Holder, x: Tensor) -> tuple[Any, ...]:
        """See Cut."""
        return self._first(holder, x)

    def rest(self, holder: Holder, values: Sequence[Any], exchange: Exchange) -> Tensor:
        """See Cut."""
        return self._rest(holder, *values, exchange)


class HookedCut(Cut):
    """A cut by forward hooks: the whole network runs at every timestep.

    Args:
        paths: of the modules to cut at, in the backbone.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)

    def first(self, holder: Holder, x: Tensor) -> tuple[Any, ...]:
        """The input itself: without a graph, nothing is known to be constant."""
        return (x,)

    def rest(self, holder: Holder, values: Sequence[Any], exchange: Exchange) -> Tensor:
        """See Cut."""
        backbone = holder.backbone
        handles = []
        try:
            for index, path in enumerate(self._paths):
                hook = _Hook(index, exchange)
                handles.append(backbone.get_submodule(path).register_forward_hook(hook))
            logits: Tensor = backbone(*values)
            return logits
        finally:
            for handle in handles:
                handle.remove()


class _Hook:
    def __init__(self, index: int, exchange: Exchange) -> None:
        self.index = index
        self.exchange = exchange

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            raise _no_tensor(type(output).__name__)
        return self.exchange(self.index, output)


def find_modules(backbone: nn.Module, paths: Sequence[str]) -> list[str]:
    """Check paths ("features.3"), and bring old names up to date where the new module does what the old one did.

    Raises:
        UserError: there is no such module, or two paths name the same one.
    """
    known = dict(backbone.named_modules(remove_duplicate=False))
    found: list[str] = []
    for path in paths:
        moved = _MOVED.get(path, "")
        name = moved if path not in known and moved in known and _activates(known[moved]) else path
        if name not in known or name == "":
            raise UserError(f"the backbone has no module {path!r}; {did_you_mean(path, [key for key in known if key])}")
        if known[name] in [known[other] for other in found]:
            raise UserError(f"module {path!r} has two PCoders; each needs a module of its own")
        found.append(name)
    return found


def _activates(norm: nn.Module) -> bool:
    """Whether a normalisation is one of timm's that end in an activation."""
    return type(norm).__module__ == "timm.layers.norm_act" and not isinstance(
        getattr(norm, "act", nn.Identity()), nn.Identity
    )


class _Root(Holder):
    """Calls the backbone with the input alone, so that further arguments keep their defaults."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.backbone(x)
        return out


def _exchange(exchange: Exchange, index: int, drive: Tensor) -> Tensor:
    return exchange(index, drive)


class _Tracer(fx.Tracer):
    """Traces into the modules that contain a cut module, and marks the outputs of the cut modules."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._index = {module: index for index, module in enumerate(modules)}
        self._called: set[int] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to call the module as it is."""
        return not any(inner in self._index for inner in m.modules() if inner is not m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The module's output; for a cut module, with a mark."""
        out = super().call_module(m, forward, args, kwargs)
        index = self._index.get(m)
        if index is None:
            return out
        if not isinstance(out, fx.Proxy):
            raise _no_tensor(type(out).__name__)
        if index in self._called:
            raise called_twice(self.path_of_module(m).removeprefix("backbone."))
        self._called.add(index)
        return self.create_proxy("call_function", _exchange, (None, index, out), {})


def _split(graph: fx.Graph) -> tuple[fx.Graph, fx.Graph]:
    """Two graphs: what depends on no mark, returning a tuple; and the rest, whose last argument is the exchange."""
    dependent: set[fx.Node] = set()
    for node in graph.nodes:
        marked = node.op == "call_function" and node.target is _exchange
        if marked or node.op == "output" or any(source in dependent for source in node.all_input_nodes):
            dependent.add(node)
    carried = [node for node in graph.nodes if node not in dependent and any(user in dependent for user in node.users)]
    first, rest = fx.Graph(), fx.Graph()
    before: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node not in dependent:
            before[node] = first.node_copy(node, before.__getitem__)
    first.output(tuple(before[node] for node in carried))
    after = {node: rest.placeholder(node.name) for node in carried}
    exchange = rest.placeholder("exchange")
    for node in graph.nodes:
        if node in dependent:
            after[node] = rest.node_copy(node, after.__getitem__)
            if node.target is _exchange:
                after[node].args = (exchange, *after[node].args[1:])
    return first, rest


def called_twice(path: str) -> UserError:
    """The error for a module that runs more than once in a pass: it would have two drives and one representation."""
    return UserError(f"module {path!r} is called twice in one pass; a PCoder needs a module that is called once")


def _no_tensor(found: str) -> UserError:
    return UserError(f"a module with a PCoder returns a {found}; it must return one tensor")
