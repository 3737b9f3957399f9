"""Configuration files and predictor expressions, which come from outside."""

import ast
import string

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Chain, Residual, Twice, randomise
from torch import nn

import pcbench
from pcbench.errors import UserError
from pcbench.models.predictive.build import shipped_configuration
from pcbench.models.predictive.config import PredictiveConfig, read_config, write_toml
from pcbench.models.predictive.expressions import LAYERS, parse_predictor
from pcbench.models.predictive.placement import automatic_config

PUBLISHED = """
# network name
name = "PVGG16"
imports = [
"from torch.nn import Sequential, ReLU, ConvTranspose2d",
]
gradient_scaling = true
shared_hyperparameters = true
input_size = [3, 8, 8]

[[pcoders]]
module = "features[1]"
predictor = "Sequential(ConvTranspose2d(4, 3, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2)), ReLU(inplace=True))"
hyperparameters = {feedforward=0.2, feedback=0.05, pc=0.01}

[[pcoders]]
module = "features[2]"
"""


def test_a_published_file_loads_unchanged(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(PUBLISHED)
    net = pcbench.predify(randomise(Chain()), path)
    assert net.scaling == "kc"
    assert (
        str(net.pcoders[0].predictor[0]) == "ConvTranspose2d(4, 3, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))"
    )
    assert net.hyperparameters[1].values() == {"feedforward": 0.2, "feedback": 0.05, "pc": 0.01}
    assert type(net.pcoders[1].predictor[0]) is nn.Upsample
    same = pcbench.predify(randomise(Chain()), str(path))
    assert same.config == net.config


def test_what_a_file_leaves_out_has_the_published_defaults():
    config = read_config({"pcoders": [{"module": "features[3]"}]})
    assert config.scaling == "none"
    assert config.pcoders[0].path == "features.3"
    assert config.hyperparameters()[0].values() == {"feedforward": 0.3, "feedback": 0.3, "pc": 0.01}
    assert read_config(config) is config


def test_imports_are_never_executed(tmp_path):
    target = tmp_path / "executed"
    pcoders = [{"module": "features[1]"}]
    config = {"imports": [f"open({str(target)!r}, 'w')", "import no_such_module"], "input_size": [3, 8, 8]}
    pcbench.predify(randomise(Chain()), {**config, "pcoders": pcoders})
    assert not target.exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped_configuration("pvgg16").parent.glob("*.toml")))
def test_shipped_files_survive_being_written_and_read(name, tmp_path):
    config = read_config(shipped_configuration(name))
    path = tmp_path / "again.toml"
    path.write_text(write_toml(config))
    assert read_config(path) == config


BAD_FILES = {
    "missing key": ('name = "x"', "key 'pcoders' is missing"),
    "missing module": ("[[pcoders]]\npredictor = 'ReLU()'", "key 'pcoders.1.module' is missing"),
    "unknown key": ("gradient_scalling = true\n[[pcoders]]\nmodule = 'a'", "did you mean gradient_scaling"),
    "unknown pcoder key": ("[[pcoders]]\nmodule = 'a'\npredictr = 'ReLU()'", "did you mean predictor"),
    "unknown term": ("[[pcoders]]\nmodule = 'a'\nhyperparameters = {feedfront = 1}", "did you mean feedforward"),
    "wrong type": ("pcoders = 3", "pcoders"),
    "no pcoder": ("pcoders = []", "pcoders"),
    "no TOML": ("[[pcoders", "not valid TOML"),
    "bad module": ("[[pcoders]]\nmodule = 'a[0'", "write it like 'features.3.'"),
    "hostile module": ("[[pcoders]]\nmodule = '__import__(\"os\")'", "write it like"),
    "not finite": ("[[pcoders]]\nmodule = 'a'\nhyperparameters = {pc = nan}", "hyperparameters.pc"),
    "no memory": (
        "[[pcoders]]\nmodule = 'a'\nhyperparameters = {feedforward = 0.9, feedback = 0.2}\n[[pcoders]]\nmodule = 'b'",
        "PCoder 1: feedforward \\+ feedback is 1.1",
    ),
    "enormous input": ("input_size = [3, 99999999, 9]\n[[pcoders]]\nmodule = 'a'", "input_size"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_wrong_file_is_refused_in_one_line(case, tmp_path):
    text, message = BAD_FILES[case]
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="no configuration file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(UserError, match="is a folder, not a regular file"):
        read_config(tmp_path)


BAD_FITS = {
    "unknown module": (Chain, [{"module": "features[9]"}], "no module 'features.9'; did you mean features"),
    "same module": (Chain, [{"module": "features[1]"}, {"module": "features.1"}], "two PCoders"),
    "called twice": (Twice, [{"module": "one"}], "'one' is called twice"),
    "wrong input channels": (
        Chain,
        [{"module": "features[1]", "predictor": "ConvTranspose2d(5, 3, 1)"}],
        r"PCoder 1 \(features\[1\]\): .* takes 5 channels, but there are 4",
    ),
    "wrong shape": (
        Chain,
        [{"module": "features[1]"}, {"module": "features[2]", "predictor": "ConvTranspose2d(6, 4, 3, padding=1)"}],
        r"PCoder 2: its predictor gives shape \[4, 4, 4\], but the layer below has \[4, 8, 8\]",
    ),
    "enormous": (
        Chain,
        [{"module": "features[1]", "predictor": "Sequential(Upsample(scale_factor=60000), Conv2d(4, 3, 1))"}],
        "cannot be meant",
    ),
    "no image": (Residual, [{"module": "head"}], "no default predictor"),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_a_configuration_that_does_not_fit_is_refused_in_one_line(case):
    make, pcoders, message = BAD_FITS[case]
    with pytest.raises(UserError, match=message) as caught:
        pcbench.predify(randomise(make()), {"input_size": [3, 8, 8], "pcoders": pcoders})
    assert "\n" not in str(caught.value)


def test_an_input_of_another_size_names_the_pcoder():
    config = {"input_size": [3, 9, 7], "pcoders": [{"module": "features[1]"}, {"module": "features[2]"}]}
    net = pcbench.predify(randomise(Chain()), config)
    with pytest.raises(UserError, match=r"PCoder 2: .* \[4, 9, 7\], but the layer below has \[4, 10, 7\]"):
        net(torch.zeros(1, 3, 10, 7), timesteps=1)
    with pytest.raises(UserError, match=r"\(batch, 3, height, width\)"):
        net(torch.zeros(1, 1, 9, 7), timesteps=1)
    with pytest.raises(UserError, match="timesteps is -1"):
        net(torch.zeros(1, 3, 9, 7), timesteps=-1)


def test_timm_s_former_name_of_the_stem_activation_still_works():
    import timm

    backbone = timm.create_model("efficientnet_b0").eval()
    modules = ["act1", *[f"blocks[{n}]" for n in range(7)]]
    net = pcbench.predify(backbone, {"input_size": [3, 64, 64], "pcoders": [{"module": name} for name in modules]})
    with torch.no_grad():
        step = next(iter(net.unroll(torch.zeros(1, 3, 64, 64), 0)))
    assert [e.shape[1] for e in step.representations] == [32, 16, 24, 40, 80, 112, 192, 320]


def test_a_former_name_is_not_taken_for_a_module_that_does_something_else():
    import timm
    import torchvision

    backbone = torchvision.models.resnet18(num_classes=5).eval()
    with pytest.raises(UserError, match="the backbone has no module 'act1'"):  # its bn1 comes before the ReLU
        pcbench.predify(backbone, {"input_size": [3, 64, 64], "pcoders": [{"module": "act1"}]})
    backbone = timm.create_model("efficientnet_b0").eval()
    backbone.bn1.act = torch.nn.Identity()
    with pytest.raises(UserError, match="the backbone has no module 'act1'"):
        pcbench.predify(backbone, {"input_size": [3, 64, 64], "pcoders": [{"module": "act1"}]})


HOSTILE = [
    "__import__('os').system('true')",
    "().__class__.__bases__[0].__subclasses__()",
    "[ReLU() for _ in range(3)]",
    "Sequential(*[ReLU() for _ in range(3)])",
    "(lambda: ReLU())()",
    "ReLU().forward",
    "ReLU.__init__",
    "torch.load('x')",
    "nn.Module()",
    "ConvTranspose2d(2**40, 3, 1)",
    "ConvTranspose2d(60000, 60000, 100)",
    "ConvTranspose2d(10**99, 3, 1)",
    "ConvTranspose2d(1e999, 3, 1)",
    "ConvTranspose2d(" + "9" * 3000 + ", 3, 1)",
    "ConvTranspose2d(4, 3, 1, device='cuda')",
    "ConvTranspose2d(4, 3, 1, **{})",
    "ConvTranspose2d(4, 3, kernel_size=open('x'))",
    "ConvTranspose2d(4, f'{1}', 1)",
    "ConvTranspose2d(4, 3, 1, padding_mode=b'zeros')",
    "ConvTranspose2d(4, 3, 1, padding_mode='" + "z" * 100 + "')",
    "Sequential(ReLU(), x)",
    "Sequential(a=ReLU())",
    "ReLU",
    "ReLU();ReLU()",
    "x := ReLU()",
    "ReLU() if True else ReLU()",
    "Softmax(1)",
    "ConvTranspose2d(4, 3)",
    "ConvTranspose2d(4, 3, 0, groups=7)",
    "",
    "(" * 1500 + ")" * 1500,
    "-" * 3000 + "1",
    "ReLU()" + " " * 5000,
]


@pytest.mark.parametrize("expression", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_and_wrong_expressions_are_refused_in_one_line(expression):
    with pytest.raises(UserError) as caught:
        parse_predictor(expression)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_both_ways_of_importing_layers_are_understood():
    for prefix in ("", "nn.", "torch.nn."):
        module = parse_predictor(
            f"{prefix}Sequential({prefix}ConvTranspose2d(4, 3, (3, 3), padding=1), {prefix}ReLU())"
        )
        assert [type(layer) for layer in module] == [nn.ConvTranspose2d, nn.ReLU]


def or_no(function, argument):
    """What a function makes of its argument; None when it refuses it, which must take one line."""
    refused = None
    try:
        return function(argument)
    except UserError as error:
        refused = str(error)
    assert "\n" not in refused
    return None


names = st.sampled_from([*LAYERS, "Sequential", "eval", "open", "os.system", "nn.ReLU", "__import__", "x"])
odd = st.one_of(st.text(max_size=5), st.binary(max_size=3), st.complex_numbers())
literals = st.one_of(st.integers(-3, 9), st.floats(), st.booleans(), st.none(), odd).map(repr)
expressions = st.recursive(
    literals,
    lambda inner: st.one_of(
        st.builds(lambda name, arguments: f"{name}({', '.join(arguments)})", names, st.lists(inner, max_size=4)),
        st.builds(lambda name, value: f"{name}(kernel_size={value})", names, inner),
        st.builds(lambda values: f"({', '.join(values)},)", st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda value: f"[{value} for _ in range(3)]", inner),
        st.builds(lambda value: f"{value}.__class__", inner),
        st.builds(lambda value: f"-{value}", inner),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(expressions, st.text(alphabet=string.printable, max_size=60)))
def test_any_expression_is_a_module_of_known_layers_or_a_clear_no(expression):
    module = or_no(parse_predictor, expression)
    if module is None:
        return
    assert {type(layer) for layer in module.modules()} <= {*LAYERS.values(), nn.Sequential}
    called = [node.func for node in ast.walk(ast.parse(expression.strip(), mode="eval")) if isinstance(node, ast.Call)]
    assert all(ast.unparse(function).rpartition(".")[2] in {*LAYERS, "Sequential"} for function in called)


toml_values = st.recursive(
    st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
keys = st.sampled_from([*PredictiveConfig.model_fields, "module", "predictor", "hyperparameters", "other"])


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(keys, st.one_of(toml_values, st.lists(st.dictionaries(keys, toml_values, max_size=3), max_size=2)))
)
def test_any_content_is_a_configuration_or_a_clear_no(content):
    config = or_no(read_config, content)
    assert config is None or read_config(config.model_dump()) == config


def test_modules_of_a_bare_sequential_are_named_by_their_index() -> None:
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7),
    ).eval()  # fmt: skip
    automatic = automatic_config(backbone, (3, 16, 16))
    assert [pcoder.path for pcoder in automatic.pcoders] == ["0", "2", "3"]
    for modules in (["0", "2"], ["[0]", "[2]"]):
        config = {"input_size": [3, 16, 16], "pcoders": [{"module": module} for module in modules]}
        assert pcbench.predify(backbone, config)(torch.rand(2, 3, 16, 16), 2).shape == (3, 2, 7)
    assert pcbench.predify(backbone, automatic)(torch.rand(1, 3, 16, 16), 1).shape == (2, 1, 7)
