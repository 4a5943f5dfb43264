# %% x10-net: You left out the false alarms: 12 patients were
benefit = 0.18

# %% x10-net: A false alarm counted as much as a hit
benefit = 0.06

# %% x10-net: You weighed false alarms by the threshold: it is
benefit = 18 / 100 - 12 / 100 * 0.2

# %% x10-net: You divided by the flagged: net benefit is per
benefit = 18 / 30 - 12 / 30 * 0.25

# %% x10-censored: You counted recorded recurrences only
def my_net_benefit(time, event, risk, horizon, threshold):
    f, seen = risk >= threshold, (event == 1) & (time <= horizon)
    return (f & seen).mean() - (f & ~seen).mean() * threshold / (1 - threshold)

# %% x10-censored: must be of the flagged
def my_net_benefit(time, event, risk, horizon, threshold):
    f, s = risk >= threshold, survival_at(time, event, horizon)
    return f.mean() * ((1 - s) - s * threshold / (1 - threshold))

# %% x10-censored: You forgot the share that is flagged
def my_net_benefit(time, event, risk, horizon, threshold):
    f = risk >= threshold
    s = survival_at(time[f], event[f], horizon)
    return (1 - s) - s * threshold / (1 - threshold)

# %% x10-all: You left out the false alarms: 70 % are
benefit_of_all = 0.3

# %% x10-all: You weighed false alarms by the threshold: it is
benefit_of_all = 0.3 - 0.7 * 0.3

# %% x10-all: A false alarm counted as much as a hit
benefit_of_all = 0.3 - 0.7

# %% x10-range: It is the highest where nobody decides: at 15
sentence = "a"

# %% x10-range: The threshold states what harm is accepted for a
sentence = "b"

# %% x10-range: For another treatment, with a threshold between 30 %
sentence = "d"
