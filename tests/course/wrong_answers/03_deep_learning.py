# %% x03-loss: That is the sum over the recurrences; the
loss = np.log(4) + np.log(2)

# %% x03-loss: The patient last seen at 5 months is
loss = (np.log(4) + np.log(3)) / 2

# %% x03-loss: Censored patients have no term of their own;
loss = np.log(24) / 4

# %% x03-scale: Mean and SD came from all patients: those
def standardise(scores, learned):
    return (scores - scores.mean()) / scores.std()

# %% x03-scale: The location is taken out, the scale is
def standardise(scores, learned):
    return scores - scores[learned].mean()

# %% x03-scale: The mean is that of the patients learned
def standardise(scores, learned):
    return (scores - scores[learned].mean()) / scores.std()

# %% x03-world: Where it was made it cannot fail: a
sentence = "a"

# %% x03-world: The other recipe finds as much there as
sentence = "b"

# %% x03-world: Synthetic patients are what shows it here: the
sentence = "d"
