"""How loops over patients or voxels are compiled."""
