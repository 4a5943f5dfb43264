"""What the machine does for us: compiled loops, work side by side, one owner for a folder."""
