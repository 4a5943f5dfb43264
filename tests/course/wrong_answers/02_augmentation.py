# %% x02-turns: You counted those as well in which head
kept = 16

# %% x02-turns: The other two axes may change places too:
kept = 4

# %% x02-turns: 24 of the 48 are turns without a
kept = 24

# %% x02-shift: What leaves at one end comes in at
def shifted(row, n):
    return np.roll(row, n)

# %% x02-shift: You filled with zeros, and 0 is a
def shifted(row, n):
    return np.concatenate([np.zeros(n), row[:-n]])

# %% x02-shift: That is a shift to lower indices.
def shifted(row, n):
    return np.concatenate([row[n:], np.repeat(row[-1], n)])

# %% x02-flip: More showings of a contradiction do not resolve
sentence = "a"

# %% x02-flip: A legal change shows the same patient again
sentence = "c"

# %% x02-flip: An apparent C measures memory as well: it
sentence = "d"
