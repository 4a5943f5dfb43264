"""Run the notebooks: which reads what, with which parameters, at what cost."""
