# %% x00-free: You counted everybody without a recurrence as free:
lrfs_at_12 = 6 / 8

# %% x00-free: You left out the two who were last
lrfs_at_12 = 4 / 6

# %% x00-free: You counted those who were lost as recurrences:
lrfs_at_12 = 4 / 8

# %% x00-free: That is the estimate after the first recurrence;
lrfs_at_12 = 7 / 8

# %% x00-needs: Those are the direct ones: the two read
def needed(name):
    return ", ".join(sorted(n for n in chain if set(chain[n][1]) & set(chain[name][0])))

# %% x00-needs: The notebook itself is in your list; it
def needed(name):
    return ", ".join(n for n in chain if n <= name)

# %% x00-needs: Those come after: they read what this one
def needed(name):
    return ", ".join(n for n in chain if set(chain[n][0]) & set(chain[name][1]))

# %% x00-phantom: The patients were drawn by a program: no
sentence = "a"

# %% x00-phantom: Other patients, another network, other factors: agreement with
sentence = "b"

# %% x00-phantom: It shows whether a method that ought to
sentence = "d"
