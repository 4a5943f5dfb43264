# %% x14-scanner: You counted ties as wrong: two patients of
share = 20 * 36 / (24 * 56)

# %% x14-scanner: You counted ties as right: two patients of
share = (20 * 36 + 20 * 20 + 4 * 36) / (24 * 56)

# %% x14-scanner: It knows nothing about patients of one scanner,
share = 0.5

# %% x14-within: You took all pairs: those of two scanners
def share_within(score, recurs, scanner):
    yes, no = recurs == 1, recurs == 0
    return ((score[yes][:, None] > score[no]) + (score[yes][:, None] == score[no]) / 2).mean()

# %% x14-within: You took the pairs of different scanners, where
def share_within(score, recurs, scanner):
    yes, no = recurs == 1, recurs == 0
    right = (score[yes][:, None] > score[no]) + (score[yes][:, None] == score[no]) / 2
    return right[scanner[yes][:, None] != scanner[no]].mean()

# %% x14-within: The order is turned around: whoever recurs should
def share_within(score, recurs, scanner):
    yes, no = recurs == 1, recurs == 0
    right = (score[yes][:, None] < score[no]) + (score[yes][:, None] == score[no]) / 2
    return right[scanner[yes][:, None] == scanner[no]].mean()

# %% x14-ruler: With the volume held fixed the interval holds
sentence = "a"

# %% x14-ruler: The interval reaches to 1.7: something of that
sentence = "b"

# %% x14-ruler: The question was what the score says beyond
sentence = "c"
