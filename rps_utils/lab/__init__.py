"""What needs a known truth: phantom, planted faults, studies."""
