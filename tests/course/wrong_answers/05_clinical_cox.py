# %% x05-share: You shared evenly among the four: a carrier has
probability = 1 / 4

# %% x05-share: That is the probability that it is any carrier
probability = 2 / 3

# %% x05-share: That is the share of carriers among those at
probability = 1 / 2

# %% x05-likelihood: holds all patients at every recurrence
def log_partial_likelihood(beta, time, event, x):
    h = np.exp(beta * x)
    return sum(np.log(h[i] / h.sum()) for i in np.flatnonzero(event))

# %% x05-likelihood: added a term for censored patients
def log_partial_likelihood(beta, time, event, x):
    h = np.exp(beta * x)
    return sum(np.log(h[i] / h[time >= time[i]].sum()) for i in range(len(time)))

# %% x05-unit: You added ten times 3 %: ratios multiply, so
ratio = 1.30

# %% x05-unit: The ratio of one year is not that of
ratio = 1.03

# %% x05-unit: You multiplied the ratio by ten: it is the
ratio = 10.3

# %% x05-interval: A p above 0.05 is no proof of no
sentence = "a"

# %% x05-interval: 1.8 is the best guess, but the interval reaches
sentence = "b"

# %% x05-interval: Dropping factors by their p-value in the same patients
sentence = "d"
