# %% x04-four: That is the number of levels; entropy is
bits = 4

# %% x04-four: With two equally frequent levels it would be
bits = 1

# %% x04-four: That is in natural units: bits take the
bits = np.log(4)

# %% x04-entropy: You took the natural logarithm: bits need base
def entropy(hu, bin_width):
    counts = np.unique(np.floor(hu / bin_width), return_counts=True)[1]
    share = counts / counts.sum()
    return -(share * np.log(share)).sum()

# %% x04-entropy: Every value became a level of its own:
def entropy(hu, bin_width):
    counts = np.unique(hu, return_counts=True)[1]
    share = counts / counts.sum()
    return -(share * np.log2(share)).sum()

# %% x04-entropy: Cutting off the decimals joins the bins on
def entropy(hu, bin_width):
    counts = np.unique((hu / bin_width).astype(int), return_counts=True)[1]
    share = counts / counts.sum()
    return -(share * np.log2(share)).sum()

# %% x04-wider: Half as many bins is not half the
bits_of_wider_bins = 2

# %% x04-wider: The tumour is the same, but the feature
bits_of_wider_bins = 4

# %% x04-wider: Wider bins hold more voxels each, so there
bits_of_wider_bins = 5

# %% x04-selection: Choosing is learning: the ten are those that
sentence = "a"

# %% x04-selection: A p-value of patients who took part in
sentence = "c"

# %% x04-selection: Ten were kept, but a thousand were tried,
sentence = "d"
