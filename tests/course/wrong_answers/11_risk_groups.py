# %% x11-curve: You counted the patient censored at 6 as watched
free_at_10 = 3 / 5

# %% x11-curve: You left the patient censored at 6 out from
free_at_10 = 1 / 2

# %% x11-curve: That is the estimate after the first fall; a
free_at_10 = 4 / 5

# %% x11-km: You took a share of all patients
def free_at(time, event, at):
    return 1 - ((event == 1) & (time <= at)).mean()

# %% x11-km: counted as one
def free_at(time, event, at):
    free = 1.0
    for t in np.unique(time[(event == 1) & (time <= at)]):
        free *= 1 - 1 / (time >= t).sum()
    return free

# %% x11-search: That is the level of one test; there are
chance = 0.05

# %% x11-search: You added the ten: chances of overlapping events do
chance = 0.5

# %% x11-search: That is the probability that none of them is
chance = 0.95**10

# %% x11-deaths: That is the answer for a world without other
sentence = "a"

# %% x11-deaths: The two answer different questions; their mean answers none
sentence = "c"

# %% x11-deaths: The cumulative incidence counts deaths as what they are
sentence = "d"
