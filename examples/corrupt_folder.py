"""Corrupt every picture of a folder, and write the result beside it under the same names.

    python corrupt_folder.py FOLDER OUTPUT [CORRUPTION] [SEVERITY]

The picture's name is its id: its corruption is the same whatever else is in the folder.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import pcbench

folder, output = Path(sys.argv[1]), Path(sys.argv[2])
name = sys.argv[3] if len(sys.argv) > 3 else "fog"
severity = int(sys.argv[4]) if len(sys.argv) > 4 else 3

output.mkdir(parents=True, exist_ok=True)
files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
for file in files:
    image = np.asarray(Image.open(file).convert("RGB").resize((224, 224)))[None]  # (1, H, W, 3) uint8
    corrupted = pcbench.corrupt(image, name, severity, seed=0, ids=[file.stem])
    Image.fromarray(corrupted[0]).save(output / f"{file.stem}.png")
print(f"{len(files)} pictures with {name} of severity {severity} in {output}")
