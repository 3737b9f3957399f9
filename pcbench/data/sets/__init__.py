"""The data sets, one file each: classes, forms on disk, samples. A new one is a new file here, or an entry point."""
