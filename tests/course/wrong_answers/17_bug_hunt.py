# %% x17-metres: That is for one edge; a volume has
factor = 1000

# %% x17-metres: That is for an area: two edges of
factor = 1000**2

# %% x17-metres: That is the factor from wrong to right
factor = 1000**-3

# %% x17-shared: You counted P3's own second line: sharing takes
def patients_that_share(table):
    return int(table["sha256"].duplicated(keep=False).sum())

# %% x17-shared: You counted scans: one scan is shared, by
def patients_that_share(table):
    return int((table.groupby("sha256")["patient_id"].nunique() > 1).sum())

# %% x17-shared: You left the first of them out: nobody
def patients_that_share(table):
    return int(table.drop_duplicates()["sha256"].duplicated().sum())

# %% x17-silence: Exchanged outcomes contradict nothing: each value is allowed,
sentence = "b"

# %% x17-silence: Silence is no proof: some faults leave nothing
sentence = "c"

# %% x17-silence: A turned scan passes as well, mask and
sentence = "d"
