# %% x16-rank: You left out the new patient: of 20
rank = 1

# %% x16-rank: That is the rank from the other end:
rank = 18

# %% x16-rank: That is the median, which one in two
rank = 10

# %% x16-limit: You left the new patient out of the
def limit(values, level):
    rank = int((1 - level) * len(values) + 1e-9)
    return np.sort(values)[rank - 1]

# %% x16-limit: Ranks begin at 1 and positions in Python
def limit(values, level):
    rank = int((1 - level) * (len(values) + 1) + 1e-9)
    return np.sort(values)[rank]

# %% x16-limit: You counted from the largest: eight in ten
def limit(values, level):
    rank = int((1 - level) * (len(values) + 1) + 1e-9)
    return np.sort(values)[-rank]

# %% x16-agree: Agreement says that their teachers were alike: they
sentence = "a"

# %% x16-agree: A network gives a score for anything, and
sentence = "b"

# %% x16-agree: A flag says that the patient is unlike
sentence = "d"
