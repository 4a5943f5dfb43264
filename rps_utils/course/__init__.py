"""What makes course material of the notebooks: the student's copies, and checks that say what is wrong."""
