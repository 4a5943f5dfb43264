# %% x01-volume: The determinant is negative where an axis runs
def volume_ml(mask, affine):
    return mask.sum() * np.linalg.det(affine[:3, :3]) / 1000

# %% x01-volume: That is in cubic millimetres: a millilitre has
def volume_ml(mask, affine):
    return mask.sum() * abs(np.linalg.det(affine[:3, :3]))

# %% x01-volume: That counts voxels: each has a size, and
def volume_ml(mask, affine):
    return mask.sum()

# %% x01-follow-up: That is the median of all times: who
median_follow_up = 6.5

# %% x01-follow-up: That is the median of those without recurrence
median_follow_up = 8

# %% x01-follow-up: That is the median time to recurrence: the
median_follow_up = 9

# %% x01-mirror: It looks right for this patient, and the
remedy = "a"

# %% x01-mirror: That moves the mask into the healthy side
remedy = "c"

# %% x01-mirror: The shape says how many voxels there are,
remedy = "d"
