"""Give a network of timm predictive-coding dynamics, and ask for its answer at every timestep.

python predify_timm.py [NAME]
"""

import sys

import timm
import torch

import pcbench

name = sys.argv[1] if len(sys.argv) > 1 else "resnet18"
backbone = timm.create_model(name, pretrained=False).eval()  # pretrained=True downloads timm's weights

# Where to cut, and how strongly each term acts. The predictors get random weights; `pcbench train feedback` fits them.
values = {"feedforward": 0.8, "feedback": 0.1, "pc": 0.01}
stages = [f"layer{n}" for n in (1, 2, 3, 4)]
config = {"gradient_scaling": True, "pcoders": [{"module": stage, "hyperparameters": values} for stage in stages]}
net = pcbench.predify(backbone, config).eval()

images = torch.rand(2, 3, 224, 224)
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
normalised = (images - mean[:, None, None]) / std[:, None, None]
with torch.inference_mode():
    logits = net(normalised, timesteps=3)  # (4, 2, 1000)
    assert torch.allclose(logits[0], backbone(normalised), atol=1e-4)  # t = 0 is the backbone
    for step in net.unroll(normalised, timesteps=3):
        errors = [f"{error.mean():.4f}" for error in step.errors]
        print(
            f"t = {step.t}: moved by {(step.logits - logits[0]).abs().max():.4f}; prediction errors {', '.join(errors)}"
        )
