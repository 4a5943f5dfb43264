"""pyradiomics made fast: its own names and formulas, the passes over the voxels ours."""
