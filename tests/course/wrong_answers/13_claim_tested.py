# %% x13-best: That is the chance against one rival; there
chance = 1 / 2

# %% x13-best: That is the chance of one whole order
chance = 1 / 24

# %% x13-best: That is the chance to be ahead of
chance = 1 / 8

# %% x13-best: That is the level of a test, and
chance = 0.05

# %% x13-corrected: You doubled p: it is the chi-square that
def corrected(p):
    return 2 * p

# %% x13-corrected: You halved p, which makes the alarm louder.
def corrected(p):
    return p / 2

# %% x13-corrected: You halved z, which makes a quarter of
def corrected(p):
    return chi2.sf((chi2.isf(p, 1) ** 0.5 / 2) ** 2, 1)

# %% x13-corrected: You doubled the chi-square, which makes the alarm
def corrected(p):
    return chi2.sf(chi2.isf(p, 1) * 2, 1)

# %% x13-null: There is none to find: in these cohorts
sentence = "a"

# %% x13-null: Luck moves single cohorts up and down; it
sentence = "c"

# %% x13-null: What leaks here leaks in real patients too,
sentence = "d"
