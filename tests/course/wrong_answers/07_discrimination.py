# %% x07-pairs: censored before the other's event
usable = 15

# %% x07-pairs: left out the patient censored at 5
usable = 8

# %% x07-pairs: two events at 8
usable = 10

# %% x07-harrell: include those censored before
def my_c(time, event, risk):
    n = range(len(time))
    return np.mean([(risk[i] > risk[j]) + (risk[i] == risk[j]) / 2 for i in n for j in n if time[j] > time[i]])

# %% x07-harrell: leave out patients censored in the month
def my_c(time, event, risk):
    n = range(len(time))
    return np.mean(
        [(risk[i] > risk[j]) + (risk[i] == risk[j]) / 2 for i in n for j in n if event[i] and time[j] > time[i]]
    )

# %% x07-harrell: 1 minus the right one
def my_c(time, event, risk):
    return concordance_index(time, risk, event)

# %% x07-monotone: exponential of C itself
c_after = np.exp(0.71)

# %% x07-monotone: turned the order round
c_after = 1 - 0.71

# %% x07-interval: luck would do
sentence = "a"

# %% x07-interval: Absence of a proof
sentence = "b"

# %% x07-interval: only the paired difference
sentence = "d"
