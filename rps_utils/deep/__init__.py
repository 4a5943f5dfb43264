"""The networks and what is asked of them: the home of torch and MONAI."""
