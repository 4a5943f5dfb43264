"""How single files that people bring are opened and understood."""
