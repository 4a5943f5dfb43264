"""Image files as people bring them: NIfTI, NRRD (with 3D Slicer's segmentations) and MetaImage, header first."""
