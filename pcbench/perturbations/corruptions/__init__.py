"""The 19 corruptions of ImageNet-C."""
