"""Registered predictive models: options, ablations, weights, automatic configurations, shares of the terms."""

import numpy as np
import pytest
import torch
import torchvision
from networks import Chain, Untraceable, randomise

import pcbench
from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data
from pcbench.errors import UserError
from pcbench.models.checkpoints import Metadata, feedback_tensors, read, save
from pcbench.models.listing import describe_model, list_models
from pcbench.models.predictive.build import apply_options
from pcbench.models.predictive.config import read_config
from pcbench.models.predictive.dynamics import term_shares
from pcbench.models.predictive.placement import automatic_config
from pcbench.models.resolve import load_model, resolve
from pcbench.models.spec import MODELS


@pytest.fixture
def net():
    values = {"feedforward": 0.4, "feedback": 0.2, "pc": 0.5}
    tables = [{"module": m, "hyperparameters": values} for m in ("features[1]", "features[2]", "features[5]")]
    config = {"gradient_scaling": True, "input_size": [3, 8, 8], "pcoders": tables}
    return pcbench.predify(randomise(Chain()), config)


def hyperparameters(net):
    return [(h.feedforward, h.feedback, h.pc) for h in net.hyperparameters]


@pytest.mark.parametrize(
    ("dynamics", "expected"),
    [
        ("full", (0.4, 0.2, 0.5)),
        ("no-error", (0.4, 0.2, 0)),
        ("no-feedback", (0.4, 0, 0.5)),
        ("memory-only", (0.4, 0, 0)),
    ],
)
def test_ablations_take_terms_away(net, dynamics, expected):
    assert apply_options(net, {"dynamics": dynamics}) == dynamics
    assert hyperparameters(net) == [expected] * 3


def test_explicit_values_for_all_or_for_each(net):
    apply_options(net, {"feedforward": "0.5", "feedback": "0.1,0.2,0.3", "pc": [0.1, 0.2, 0.3], "scaling": "none"})
    assert hyperparameters(net) == [(0.5, 0.1, 0.1), (0.5, 0.2, 0.2), (0.5, 0.3, 0.3)]
    assert net.scaling == "none"
    apply_options(net, {"init_noise": "7", "feedback": 0.25, "dynamics": "no-error"})
    assert net.initial_noise == 7
    assert hyperparameters(net)[0] == (0.5, 0.25, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamics": "no-eror"}, "did you mean no-error"),
        ({"feedback": "a"}, "feedback is 'a'; it is a number"),
        ({"pc": "0.1,0.2"}, "pc has 2 values for 3 PCoders"),
        ({"feedforward": "1.2"}, "between 0 and 1"),
        ({"feedforward": "0.9", "feedback": "0.2"}, "must leave memory"),
        ({"scaling": "ck"}, "scaling is 'ck'"),
        ({"init_noise": "x"}, "init_noise is 'x'"),
    ],
)
def test_wrong_options_are_refused(net, options, message):
    with pytest.raises(UserError, match=message):
        apply_options(net, options)


def test_options_come_through_names_and_arguments_and_are_recorded():
    model = load_model("presnet18?dynamics=no-feedback&pc=0.05", "random", scaling="none")
    assert model.provenance["dynamics"] == "no-feedback"
    assert model.provenance["scaling"] == "none"
    assert model.provenance["hyperparameters"] == [{"feedforward": 0.8, "feedback": 0.0, "pc": 0.05}] * 4
    with pytest.raises(UserError, match="did you mean feedback"):
        load_model("presnet18?feedbak=1", "random")


def test_random_weights_are_seeded_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (load_model("presnet18", "random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in a.network.state_dict().items():
        assert torch.equal(tensor, b.network.state_dict()[name])
    weight = "pcoders.0.predictor.1.weight"
    assert not torch.equal(a.network.state_dict()[weight], c.network.state_dict()[weight])


def test_the_published_experiments_values_are_the_published_networks_defaults():
    for name in ("pvgg16", "pefficientnet-b0"):
        weights = MODELS[name].weights[0]
        assert weights.options["scaling"] == "none"
        assert [weights.options[term] for term in ("feedforward", "feedback", "pc")] == [0.8, 0.1, 0.01]


def test_every_predictive_model_has_its_baseline():
    for name, spec in MODELS:
        if spec.family == "predictive" and spec.weights[0].data == "imagenet":
            assert name[1:] == spec.baseline
            assert MODELS[spec.baseline].family == "feedforward"
            assert spec.weights[0].preprocessing == MODELS[spec.baseline].weights[0].preprocessing


def test_feedback_weights_are_loaded_from_the_user_s_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path))
    name = "predify:efficientnet-lite0"
    with pytest.raises(UserError, match="predify-efficientnet-lite0-imagenet1k"):
        resolve(name)
    random = load_model(name, "random", seed=3)
    path = tmp_path / "predify-efficientnet-lite0-imagenet1k.safetensors"
    identity = random.provenance["configuration"]
    save(path, feedback_tensors(random.network), Metadata(architecture=name, configuration=identity), half=True)
    model = load_model(name)
    assert model.weights == "imagenet1k"
    weight = "pcoders.0.predictor.1.weight"
    assert torch.equal(model.network.state_dict()[weight], read(path).tensors[weight].float())
    assert set(model.provenance["sha256"]) == {"backbone", "feedback"}
    assert not torch.equal(model.network.backbone.conv_stem.weight, random.network.backbone.conv_stem.weight), (
        "the backbone has the weights of its package"
    )


def test_a_feedback_file_of_another_configuration_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path))
    name = "predify:efficientnet-lite0"
    random = load_model(name, "random")
    path = tmp_path / "predify-efficientnet-lite0-imagenet1k.safetensors"
    save(path, feedback_tensors(random.network), Metadata(architecture=name, configuration="0" * 64))
    with pytest.raises(UserError, match="another configuration"):
        load_model(name)


def test_efficientnet_lite0_is_the_public_implementation():
    """Logits and answers of the PyPI package efficientnet-lite-pytorch with the same file, on the same images."""
    model = load_model("efficientnet-lite0")
    samples, geometry = load_data("samples"), Geometry.of(model.preprocessing)
    pixels = np.stack([geometry.prepare(samples.read(position)) for position in range(20)])
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)[0]
    assert int((logits.argmax(1) == torch.tensor(samples.labels)).sum()) == 18
    public = [[0.9571, 0.7762, -0.1767, -0.2717], [-0.5922, -0.3109, 0.3433, -0.6729]]
    torch.testing.assert_close(logits[:2, :4], torch.tensor(public), rtol=0, atol=1e-3)


def test_missing_weights_say_which_file_where_and_what_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"vgg16-397923af.pth.*downloaded from.*what runs now: --weights .*random"):
        load_model("vgg16", "imagenet1k")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet19", "did you mean resnet18"),
        ("timm:resnet18.a9_in1k", "no weights 'a9_in1k'"),
        ("torchvision:vgg61", "did you mean vgg"),
        ("predify:presnet18", "predictive already"),
        ("predify:timm:resnet19", "did you mean resnet18"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        load_model(name, "random")


def test_feedforward_models_answer_the_same_at_every_timestep():
    for name in ("timm:test_resnet", "torchvision:squeezenet1_0"):
        model = load_model(name, "random")
        with torch.inference_mode():
            logits = model(torch.rand(1, *model.input_size), timesteps=2)
        assert logits.shape == (3, 1, 1000)
        assert torch.equal(logits[0], logits[2])


def test_any_network_becomes_predictive_by_name(tmp_path):
    model = load_model("predify:timm:test_resnet", "random")
    with torch.inference_mode():
        logits = model(torch.rand(2, *model.input_size), timesteps=1)
    assert logits.shape == (2, 2, 1000)
    path = tmp_path / "one.toml"
    path.write_text("input_size = [3, 160, 160]\n[[pcoders]]\nmodule = 'layer2'\n")
    one = load_model(f"predify:timm:test_resnet?config={path}", "random")
    assert one.provenance["modules"] == ["layer2"]


AUTOMATIC = {
    "vgg16": ["features[3]", "features[8]", "features[15]", "features[22]", "features[29]"],
    "resnet18": ["relu", "layer1", "layer2", "layer3", "layer4"],
    "densenet121": ["features.relu0", "features.denseblock1", "features.denseblock2", "features.denseblock3"],
}


@pytest.mark.parametrize("name", AUTOMATIC)
def test_pcoders_go_where_the_spatial_size_changes(name):
    with torch.device("meta"):
        structure = torchvision.models.get_model(name, weights=None)
    backbone = structure.to_empty(device="cpu")
    config = automatic_config(backbone, (3, 64, 64))
    modules = [pcoder.module for pcoder in config.pcoders]
    assert modules == AUTOMATIC[name]
    assert config.pcoders[0].predictor is not None
    assert read_config(config.model_dump()) == config


def test_no_place_for_a_pcoder_is_a_clear_error():
    with pytest.raises(UserError, match="shrinks nowhere"):
        automatic_config(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU()), (3, 8, 8))


def test_shares_of_the_terms_are_the_equations(net):
    x = torch.randn(6, 3, 8, 8)
    whole = term_shares(net, [x], timesteps=3)
    parts = term_shares(net, [x[:4], x[4:]], timesteps=3)
    assert list(whole.columns) == ["pcoder", "module", "timestep", "feedforward", "feedback", "memory", "error"]
    assert len(whole) == 3 * 3
    terms = ["feedforward", "feedback", "memory", "error"]
    torch.testing.assert_close(torch.tensor(whole[terms].to_numpy()), torch.tensor(parts[terms].to_numpy()))
    with torch.no_grad():
        steps = list(net.unroll(x, 2))
    e, before = steps[2].representations[0], steps[1].representations[0]
    row = whole[(whole.pcoder == 1) & (whole.timestep == 2)].iloc[0]
    assert row.memory == pytest.approx(
        float((0.4 * before).square().mean().sqrt() / e.square().mean().sqrt()), rel=1e-4
    )
    p = steps[1].predictions[1]
    assert row.feedback == pytest.approx(float((0.2 * p).square().mean().sqrt() / e.square().mean().sqrt()), rel=1e-4)
    assert (whole[whole.pcoder == 3].feedback == 0).all()
    assert (whole[terms[:3]].drop(columns="feedback") > 0).all().all()
    assert (whole.error > 0).all()


def test_shares_work_without_a_traced_first_stage():
    net = pcbench.predify(randomise(Untraceable()), {"input_size": [3, 8, 8], "pcoders": [{"module": "one"}]})
    assert len(term_shares(net, [torch.randn(2, 3, 8, 8)], timesteps=2)) == 2


def test_the_list_of_models_says_what_is_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    rows = {row["name"]: row for row in list_models()}
    assert rows["efficientnet-lite0"]["at_hand"] == ["imagenet1k", "random"]
    assert rows["pvgg16"]["at_hand"] == ["random"]
    assert "vgg16-397923af.pth" in rows["pvgg16"]["needs"]["imagenet1k"][0]
    assert rows["pvgg16"]["baseline"] == "vgg16"
    about = describe_model("efficientnet-lite0")
    assert about["parameters"] == 4_652_008
    assert about["weights"][0]["preprocessing"]["mean"] == [0.5] * 3
    assert describe_model("predify:timm:resnet18", count=False)["options"]["config"]
    assert list_models is pcbench.list_models
