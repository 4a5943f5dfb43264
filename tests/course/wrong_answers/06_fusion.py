# %% x06-ratio: Ratios multiply, they do not add: each SD
ratio = 6

# %% x06-ratio: That is the ratio for one SD; these
ratio = 2

# %% x06-ratio: You squared where it takes the third power:
ratio = 9

# %% x06-networks: Those are the networks that leave out one
count = 5

# %% x06-networks: You counted each pair twice: a network that
count = 25

# %% x06-networks: Those are the pairs; the single folds are
count = 10

# %% x06-lrfs: The log hazard has to become a hazard
def lrfs(baseline, log_hazard):
    return np.exp(-baseline * log_hazard)

# %% x06-lrfs: That is the probability of recurrence; LRFS is
def lrfs(baseline, log_hazard):
    return 1 - np.exp(-baseline * np.exp(log_hazard))

# %% x06-lrfs: The sign is turned around: a higher log
def lrfs(baseline, log_hazard):
    return np.exp(-baseline * np.exp(-log_hazard))

# %% x06-too-good: It is no estimate of what holds in
sentence = "a"

# %% x06-too-good: An average of a mistake and an estimate
sentence = "b"

# %% x06-too-good: An interval from 0.8 to 1.8 does not
sentence = "d"
