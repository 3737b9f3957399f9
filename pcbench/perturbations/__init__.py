"""What is done to images: corruptions, noise, attacks. Each kind is one module with a class of `base.Perturbation`."""
