# %% x09-oe: You divided the shares that stay free: O/E is
o_over_e = 0.6 / 0.7

# %% x09-oe: You turned the ratio round: observed stands above, expected
o_over_e = 0.3 / 0.4

# %% x09-oe: That is the difference; O/E is a ratio
o_over_e = 0.1

# %% x09-expected: You summed 1 - lrfs
def observed_over_expected(event, lrfs):
    return event.sum() / (1 - lrfs).sum()

# %% x09-expected: Your expected number is negative
def observed_over_expected(event, lrfs):
    return event.sum() / np.log(lrfs).sum()

# %% x09-ipa: That is what is gone, not as a share
ipa = 0.06

# %% x09-ipa: That is the share of the error that is
ipa = 0.75

# %% x09-ipa: You divided by the model's own Brier score: the
ipa = 0.06 / 0.18

# %% x09-slope: A slope below 1 shrinks the log hazards; not
sentence = "b"

# %% x09-slope: That would be a matter of the level, O/E
sentence = "c"

# %% x09-slope: A positive factor changes no order, so C stays
sentence = "d"
