# %% x15-first: That is the gradient at the patient times
attribution = 2

# %% x15-first: That is what both voxels add together.
attribution = 3

# %% x15-first: That is the mean gradient; multiply by the
attribution = 0.75

# %% x15-first: You took the quarter of the way on
attribution = 0.5

# %% x15-walk: You have the mean gradient: multiply by the
def attributions(gradient, patient, baseline, steps):
    along = (np.arange(steps) + 0.5) / steps
    return np.mean([gradient(baseline + t * (patient - baseline)) for t in along], axis=0)

# %% x15-walk: You took the gradient at the patient only;
def attributions(gradient, patient, baseline, steps):
    return gradient(patient) * (patient - baseline)

# %% x15-walk: Your way starts at 0: it has to
def attributions(gradient, patient, baseline, steps):
    along = (np.arange(steps) + 0.5) / steps
    return np.mean([gradient(t * patient) for t in along], axis=0) * (patient - baseline)

# %% x15-walk: The sign is turned around: the way leads
def attributions(gradient, patient, baseline, steps):
    along = (np.arange(steps) + 0.5) / steps
    mean = np.mean([gradient(baseline + t * (patient - baseline)) for t in along], axis=0)
    return mean * (baseline - patient)

# %% x15-hit: A network that has learned nothing hits as
sentence = "a"

# %% x15-hit: A score may order patients well whatever its
sentence = "c"

# %% x15-hit: Their weights are in random order: what was
sentence = "d"
