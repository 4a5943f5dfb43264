"""The networks: the only room for torch and MONAI beside `runs` and `lab`."""
