"""Predictor expressions: layers of torch.nn with literal arguments, parsed and never evaluated.

A configuration file comes from outside, so an expression is read with `ast`, and only calls of the layers below with
plain literals are accepted. Layers are first made on the meta device, which allocates nothing, and counted.
"""

import ast
from typing import Any

import torch
from torch import nn

from pcbench.errors import UserError, did_you_mean

LAYERS: dict[str, type[nn.Module]] = {
    layer.__name__: layer
    for layer in (
        nn.BatchNorm2d, nn.Conv2d, nn.ConvTranspose2d, nn.ELU, nn.Flatten, nn.GELU, nn.Hardtanh, nn.Identity,
        nn.LeakyReLU, nn.Linear, nn.PixelShuffle, nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh,
        nn.Unflatten, nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d,
    )
}  # fmt: skip

MAX_CHARACTERS = 4_000
MAX_NUMBER = 65_536
MAX_TEXT = 32
MAX_PARAMETERS = 500_000_000  # the largest published predictor has 51 million


def parse_predictor(expression: str) -> nn.Module:
    """The module that an expression describes, freshly initialised from torch's random number generator.

    >>> parse_predictor("ConvTranspose2d(64, 3, kernel_size=(5, 5), padding=2)")
    ConvTranspose2d(64, 3, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))

    Raises:
        UserError: the expression is anything but calls of known layers with literal arguments, or it is too large.
    """
    if len(expression) > MAX_CHARACTERS:
        raise UserError(f"predictor has {len(expression)} characters; at most {MAX_CHARACTERS} are accepted")
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        with torch.device("meta"):
            planned = _build(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(
            f"predictor {_short(expression)} is not an expression like 'ConvTranspose2d(64, 3, 5)'"
        ) from None
    count = sum(parameter.numel() for parameter in planned.parameters())
    if count > MAX_PARAMETERS:
        raise UserError(
            f"predictor {_short(expression)} has {count:,} parameters; at most {MAX_PARAMETERS:,} are accepted"
        )
    return _build(tree)


def _build(node: ast.expr) -> nn.Module:
    """The module of a call node."""
    if not isinstance(node, ast.Call):
        raise UserError(f"predictor: {_text(node)} is not a layer; write a call such as ReLU()")
    name = _layer_name(node.func)
    if name == "Sequential":
        if node.keywords:
            raise UserError("predictor: Sequential takes layers, no named arguments")
        return nn.Sequential(*[_build(argument) for argument in node.args])
    positional = [_literal(argument) for argument in node.args]
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in ("device", "dtype"):
            raise UserError(f"predictor: {name} takes no {'**' if keyword.arg is None else keyword.arg} here")
        named[keyword.arg] = _literal(keyword.value)
    try:
        return LAYERS[name](*positional, **named)
    except Exception as error:  # whatever torch.nn makes of wrong arguments
        raise UserError(f"predictor: {_text(node)}: {str(error).splitlines()[0] if str(error) else error!r}") from None


def _layer_name(node: ast.expr) -> str:
    """Name of the layer that is called; "nn." and "torch.nn." before it are accepted, since files import either."""
    text = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else _text(node)
    name = text.removeprefix("torch.").removeprefix("nn.") if text.startswith(("nn.", "torch.nn.")) else text
    if name != "Sequential" and name not in LAYERS:
        raise UserError(
            f"predictor: {text[:60]!r} is not an accepted layer; {did_you_mean(name, [*LAYERS, 'Sequential'])}"
        )
    return name


def _literal(node: ast.expr) -> Any:
    """The value of a literal: a number, bool, None, short string, or a tuple or list of these."""
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_literal(element) for element in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd) and _is_number(node.operand):
        value = _literal(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.Constant):
        raise UserError(
            f"predictor: {_text(node)} is not a literal; only numbers, strings, booleans and tuples are accepted"
        )
    value = node.value
    if _is_number(node):
        assert isinstance(value, int | float)
        if not abs(value) <= MAX_NUMBER:  # so that nan is refused too
            raise UserError(f"predictor: a number is out of range; at most {MAX_NUMBER} is accepted")
        return value
    if isinstance(value, bool) or value is None or (isinstance(value, str) and len(value) <= MAX_TEXT):
        return value
    raise UserError(f"predictor: a literal {type(value).__name__} of this kind or length is not accepted")


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _text(node: ast.expr) -> str:
    return _short(ast.unparse(node))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
