# %% x12-halve: Twice the patients shrink the interval by the
patients = 58

# %% x12-halve: You multiplied by the root of two: it
patients = 41

# %% x12-halve: That is how many there are now.
patients = 29

# %% x12-z: A ratio is not normal, its logarithm is:
def z_of(ratio, low, high):
    return (ratio - 1) / ((high - low) / (2 * 1.96))

# %% x12-z: Your standard error is twice too large: the
def z_of(ratio, low, high):
    return np.log(ratio) / (np.log(high / low) / 1.96)

# %% x12-z: You tested a log hazard ratio of 1;
def z_of(ratio, low, high):
    return (np.log(ratio) - 1) / (np.log(high / low) / (2 * 1.96))

# %% x12-closeness: To reproduce a study, one needs its patients
sentence = "a"

# %% x12-closeness: The phantom's hazard was written so that there
sentence = "b"

# %% x12-closeness: The luck of the paper's 29 patients is
sentence = "c"
