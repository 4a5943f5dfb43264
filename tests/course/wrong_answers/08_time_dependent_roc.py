# %% x08-cases: You took those censored before 24 for controls: nobody
cases_and_controls = (3, 5)

# %% x08-cases: You took the patient last seen at 24 for
cases_and_controls = (3, 3)

# %% x08-cases: You took the recurrence at 30 for a case
cases_and_controls = (4, 1)

# %% x08-weights: Your G is the curve of recurrence
def case_weights(time, event, landmark):
    curve = KaplanMeierFitter().fit(time, event)
    return np.where((event == 1) & (time <= landmark), 1 / curve.predict(time).to_numpy(), 0)

# %% x08-weights: You weighted by G
def case_weights(time, event, landmark):
    curve = KaplanMeierFitter().fit(time, 1 - event)
    return np.where((event == 1) & (time <= landmark), curve.predict(time).to_numpy(), 0)

# %% x08-weights: All your cases weigh the same
def case_weights(time, event, landmark):
    return np.where((event == 1) & (time <= landmark), 1, 0)

# %% x08-shortcut: Patients lost early who would have recurred now sit
direction = "a"

# %% x08-shortcut: The loss is random, but the labels are not
direction = "c"

# %% x08-late: Two controls carry all pairs: were they two others
sentence = "a"

# %% x08-late: The two values rest on different patients, and the
sentence = "b"

# %% x08-late: An AUC needs no balance. It needs enough of
sentence = "d"
